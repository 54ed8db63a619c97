//! Get Features and Set Features (sections 5.15 and 5.27).

use super::controller::Controller;
use super::events::ENABLES;
use crate::spec::command::{
    Command, FEATURE_ASYNC_EVENTS, FEATURE_NUMBER_OF_QUEUES, FEATURE_TEMPERATURE_THRESHOLD,
    FEATURE_VOLATILE_WRITE_CACHE,
};
use crate::spec::status::Status;

impl Controller {
    /// Answers dword 0 of the completion: the value, or what was granted of it.
    pub(super) fn feature(&mut self, command: &Command, set: bool) -> Result<u32, Status> {
        let value = command.cdw11;
        match command.cdw10 as u8 {
            FEATURE_NUMBER_OF_QUEUES => {
                let asked = [value & 0xffff, value >> 16];
                if set && asked.contains(&0xffff) {
                    return Err(Status::INVALID_FIELD);
                }
                let granted = u32::from(self.config.queue_pairs) - 1;
                let grant = |asked: u32| if set { asked.min(granted) } else { granted };
                Ok(grant(asked[1]) << 16 | grant(asked[0]))
            }
            FEATURE_VOLATILE_WRITE_CACHE if self.config.volatile_write_cache => {
                if set {
                    return self.cache.enable(value & 1 != 0, &self.config.namespaces).map(|()| 0);
                }
                Ok(self.cache.is_enabled().into())
            }
            FEATURE_TEMPERATURE_THRESHOLD => self.threshold(value, set),
            FEATURE_ASYNC_EVENTS => {
                if set {
                    if value & !ENABLES != 0 {
                        return Err(Status::INVALID_FIELD);
                    }
                    self.events.enabled = value;
                    self.check_warnings();
                    return Ok(0);
                }
                Ok(self.events.enabled)
            }
            _ => Err(Status::INVALID_FIELD),
        }
    }

    /// Temperature Threshold (section 5.27.1.3).
    fn threshold(&mut self, value: u32, set: bool) -> Result<u32, Status> {
        let (sensor, which) = (value >> 16 & 0xf, value >> 20 & 3);
        // The composite temperature is the only one; all of them may be set.
        let known = sensor == 0 || (set && sensor == 0xf);
        let Some(threshold) = self.health.thresholds.get_mut(which as usize).filter(|_| known) else {
            return Err(Status::INVALID_FIELD);
        };
        if !set {
            return Ok((*threshold).into());
        }
        *threshold = value as u16;
        self.check_warnings();
        Ok(0)
    }
}
