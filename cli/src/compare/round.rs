//! One round: all devices with all ways of completion, slice by slice.

use std::time::Duration;

use super::{Generations, Request};
use crate::bench::session::{Sample, Session};
use crate::guard;
use crate::interrupt::Interrupt;
use crate::job::{Completion, Limit};
use crate::plan::Plan;
use crate::report::{Checked, Run};
use crate::target::Target;
use crate::verify::Verified;

/// About how long a slice is.
const SLICE: Duration = Duration::from_millis(250);
/// Slices of a job that counts I/Os.
const SLICES: u64 = 4;

/// What came of one device with one way of completion.
pub struct Outcome {
    /// Nothing if it could not be used.
    pub run: Option<Run>,
    /// Why not.
    pub left_out: Option<String>,
    /// The slices.
    pub samples: Vec<Sample>,
    /// Checked data.
    pub verified: Option<Verified>,
}

/// One round.
pub struct Round<'a> {
    request: &'a Request,
    generations: &'a mut Generations,
    interrupt: &'a Interrupt,
}

struct Entry {
    device: String,
    /// What the data is kept under: the same for all names of one device.
    identity: String,
    completion: Completion,
    session: Session,
    samples: Vec<Sample>,
    verified: Verified,
}

impl<'a> Round<'a> {
    /// A round that begins with these generations on the devices.
    pub fn new(request: &'a Request, generations: &'a mut Generations, interrupt: &'a Interrupt) -> Self {
        Self { request, generations, interrupt }
    }

    /// Measures on `devices`, given as name and identity.
    ///
    /// # Errors
    /// A device cannot be used at all, or not in the way that was asked for.
    pub fn run(mut self, devices: &[(String, String)]) -> anyhow::Result<Vec<Outcome>> {
        let (mut entries, mut outcomes, mut claims) = (Vec::new(), Vec::new(), Vec::new());
        let writes = self.request.verify || self.request.job.rw.writes();
        for (device, identity) in devices {
            let target = Target::open(device, false)?;
            let extent = guard::extent(&target)?;
            let plan = Plan::new(self.request.job, &self.request.region, &extent)?;
            if writes {
                // Before any ring of the job, and for as long as they are used.
                claims.push(guard::before_writing(&target, &extent, self.request.force)?);
            }
            let wanted = &self.request.completions;
            let usual = [Completion::Poll, Completion::Interrupt];
            for completion in if wanted.is_empty() { &usual[..] } else { wanted } {
                let completion = *completion;
                match self.open(&target, completion, &plan)? {
                    Opened::Session(session) => entries.push(Entry {
                        device: device.clone(),
                        identity: identity.clone(),
                        completion,
                        session: *session,
                        samples: Vec::new(),
                        verified: Verified::default(),
                    }),
                    Opened::LeftOut(why) => outcomes.push(Outcome::left_out(why)),
                }
            }
        }
        self.measure(&mut entries)?;
        outcomes.extend(entries.into_iter().map(|entry| entry.outcome(self.request.verify)));
        drop(claims);
        Ok(outcomes)
    }

    fn open(&self, target: &Target, completion: Completion, plan: &Plan) -> anyhow::Result<Opened> {
        let wanted = &self.request.completions;
        match Session::open(target, completion, plan, false) {
            Ok(session) => Ok(Opened::Session(Box::new(session))),
            // Few kernels are set up for it.
            Err(error) if wanted.is_empty() && completion == Completion::Poll && !target.is_device() => {
                Ok(Opened::LeftOut(format!("left out: {error:#}")))
            }
            Err(error) => Err(error),
        }
    }

    fn stopped(&self) -> bool {
        self.interrupt.status().is_some()
    }

    fn measure(&mut self, entries: &mut [Entry]) -> anyhow::Result<()> {
        let stop = self.interrupt.flag();
        if self.request.verify {
            self.check_what_the_other_wrote(entries)?;
            self.write_and_check(entries)?;
        }
        for entry in entries.iter_mut() {
            entry.session.warm_up(stop)?;
        }
        let (slices, limit) = slices(self.request.job.limit);
        self.request.stage(&format!("measuring in {slices} slices each"));
        for number in 0..slices {
            for entry in in_turn(entries, number) {
                if self.stopped() {
                    return Ok(());
                }
                let sample = entry.session.slice(limit, false, stop)?;
                entry.samples.push(sample);
                let generation = self.generations.get(&entry.identity);
                if let Some(generation) = generation.filter(|_| !self.request.job.rw.writes()) {
                    entry.verified.add(entry.session.check_slots(*generation));
                }
            }
        }
        if self.request.verify && self.request.job.rw.writes() {
            self.write_and_check(entries)?;
        }
        Ok(())
    }

    /// Before anything is written: the data of the round before, when roles were swapped.
    fn check_what_the_other_wrote(&self, entries: &mut [Entry]) -> anyhow::Result<()> {
        for entry in entries {
            if let Some(generation) = self.generations.get(&entry.identity) {
                let found = entry.session.check_all(Some(*generation), self.interrupt.flag())?;
                entry.verified.add(found);
            }
        }
        Ok(())
    }

    fn write_and_check(&mut self, entries: &mut [Entry]) -> anyhow::Result<()> {
        for entry in entries {
            if self.stopped() {
                break;
            }
            let generation = self.generations.get(&entry.identity).map_or(0, |last| last + 1);
            let (device, completion) = (&entry.device, entry.completion.word());
            self.request.stage(&format!("{device}, {completion}: writing the pattern and reading it back"));
            entry.session.fill(generation, self.interrupt.flag())?;
            self.generations.insert(entry.identity.clone(), generation);
            let found = entry.session.check_all(Some(generation), self.interrupt.flag())?;
            entry.verified.add(found);
        }
        Ok(())
    }
}

enum Opened {
    Session(Box<Session>),
    LeftOut(String),
}

impl Outcome {
    fn left_out(why: String) -> Self {
        Self { run: None, left_out: Some(why), samples: Vec::new(), verified: None }
    }
}

impl Entry {
    fn outcome(self, verify: bool) -> Outcome {
        let verified = verify.then_some(self.verified);
        let mut run = Run::new(&self.device, &self.session, self.completion, &self.samples);
        run.verified = verified.as_ref().map(Checked::from);
        Outcome { run: Some(run), left_out: None, samples: self.samples, verified }
    }
}

/// Every other time in reverse, so that no one always follows the same one.
fn in_turn(entries: &mut [Entry], number: u64) -> Vec<&mut Entry> {
    let mut order: Vec<&mut Entry> = entries.iter_mut().collect();
    if number % 2 == 1 {
        order.reverse();
    }
    order
}

/// How many slices, and of what length.
fn slices(limit: Limit) -> (u64, Limit) {
    match limit {
        Limit::Ios(ios) => {
            let count = SLICES.min(ios);
            (count, Limit::Ios(ios.div_ceil(count)))
        }
        Limit::Time(time) => {
            let count = (time.as_millis() / SLICE.as_millis()).clamp(1, 10_000) as u32;
            (count.into(), Limit::Time(time / count))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_add_up_to_what_was_asked() {
        let seconds = Limit::Time(Duration::from_secs(2));
        assert_eq!(slices(seconds), (8, Limit::Time(SLICE)));
        let short = Limit::Time(Duration::from_millis(10));
        assert_eq!(slices(short), (1, short));
        assert_eq!(slices(Limit::Ios(1000)), (4, Limit::Ios(250)));
        assert_eq!(slices(Limit::Ios(1)), (1, Limit::Ios(1)));
    }
}
