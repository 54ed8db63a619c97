//! The program `differential`.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use dmaring_dma::sysfs::{BindOptions, Sysfs};
use dmaring_qemu::{Controller, Namespace, Storage, Vm};

use super::feature::Features;
use super::generate::generate;
use super::pair::{Pair, Verdict};
use super::places::{BYTES, Place, kernel_side, other_sides};
use super::program::Program;
use super::{names, text};
use crate::case::{Stop, fail};

const USAGE: &str = "usage: differential [OPTION VALUE]…
  --programs N      how many programs are drawn (300)
  --seed S          of the first program; that of the next is one more (from the clock)
  --device NAME     what is compared with the kernel: model:, pci:…, a path, `kernel`, or `guest` for a pci: device
                    of a guest that is booted for it (model:)
  --kernel PATH     the kernel's device (a loop device; beside a pci: device the other controller's disk)
  --features A,B…   what programs may have in them beside plain operations (all that both sides do alike)
  --without A,B…    what of that they have not
  --replay FILE     run the program in the file
  --print           print each program";

#[derive(Debug)]
struct Arguments {
    programs: u64,
    seed: u64,
    place: Place,
    features: Option<Features>,
    without: Features,
    replay: Option<String>,
    print: bool,
}

fn arguments() -> Result<Arguments, Stop> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64 >> 10);
    let mut arguments = Arguments {
        programs: 300,
        seed: clock,
        place: Place::default(),
        features: None,
        without: Features::NONE,
        replay: None,
        print: false,
    };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().ok_or(Stop::Fail(format!("{name} takes a value\n{USAGE}")));
        let number = |text: String| names::number(&text).ok_or(Stop::Fail(format!("`{text}` is no number")));
        match name.as_str() {
            "--programs" => arguments.programs = number(value()?)?,
            "--seed" => arguments.seed = number(value()?)?,
            "--device" => arguments.place.device = value()?,
            "--kernel" => arguments.place.kernel = Some(value()?),
            "--features" => arguments.features = Some(Features::parse(&value()?).map_err(Stop::Fail)?),
            "--without" => arguments.without = Features::parse(&value()?).map_err(Stop::Fail)?,
            "--replay" => arguments.replay = Some(value()?),
            "--print" => arguments.print = true,
            _ => return fail(format!("unknown argument {name}\n{USAGE}")),
        }
    }
    Ok(arguments)
}

/// Runs it.
pub fn main() -> ExitCode {
    match start() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Stop::Fail(reason) | Stop::Skip(reason)) => {
            eprintln!("differential: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<bool, Stop> {
    let arguments = arguments()?;
    if arguments.place.device == GUEST {
        return in_guest(&arguments);
    }
    if std::env::var_os(IN_GUEST).is_some() {
        // The guest that was booted for it has its controllers on the kernel's driver.
        let address = arguments.place.device.trim_start_matches("pci:").parse()?;
        Sysfs::new().bind(address, BindOptions::default())?;
    }
    let (kernel, _disk) = kernel_side(&arguments.place)?;
    let (others, _disks) = other_sides(&arguments.place)?;
    let mut pair = Pair::new(kernel, others)?;
    if let Some(path) = &arguments.replay {
        let program = text::parse(&std::fs::read_to_string(path)?).map_err(Stop::Fail)?;
        print!("{}", pair.show(&program)?);
        return Ok(tally(&mut pair, std::iter::once(program), &arguments)?.differing == 0);
    }
    let features = arguments.features.unwrap_or(arguments.place.features()).without(arguments.without);
    let limits = arguments.place.limits(features);
    println!("seed {:#x}", arguments.seed);
    let programs = (0..arguments.programs).map(|i| generate(arguments.seed.wrapping_add(i), limits));
    let tally = tally(&mut pair, programs, &arguments)?;
    print!("{}", pair.histogram);
    let complaints = pair.histogram.complaints(features);
    complaints.iter().for_each(|complaint| println!("missing: {complaint}"));
    println!("programs {}, differing {}", arguments.programs, tally.differing);
    Ok(tally.differing == 0 && complaints.is_empty())
}

/// Set for the program in a guest.
const IN_GUEST: &str = "DMARING_DIFFERENTIAL_IN_GUEST";
const GUEST: &str = "guest";

fn in_guest(arguments: &Arguments) -> Result<bool, Stop> {
    let controller = || Controller::new(vec![Namespace::new(Storage::Mem { size_bytes: BYTES })]);
    let vm = Vm::new().controller(controller()).controller(controller()).env(IN_GUEST, "1");
    let (seed, programs) = (format!("{:#x}", arguments.seed), arguments.programs.to_string());
    let mut command = vec!["/init".to_owned(), "--seed".into(), seed, "--programs".into(), programs];
    command.extend(["--device".to_owned(), format!("pci:{}", Vm::controller_address(0))]);
    // What else was given means the same there.
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        match name.as_str() {
            "--features" | "--without" => command.extend([name, given.next().unwrap_or_default()]),
            "--print" => command.push(name),
            "--replay" | "--kernel" => return fail(format!("{name} is not for a guest")),
            _ => drop(given.next()),
        }
    }
    Ok(vm.run(command)?.success())
}

#[derive(Debug, Default)]
struct Tally {
    differing: u64,
}

fn tally(pair: &mut Pair, programs: impl Iterator<Item = Program>, arguments: &Arguments) -> Result<Tally, Stop> {
    let mut tally = Tally::default();
    for program in programs {
        if arguments.print {
            print!("{program}");
        }
        let verdict = pair.judge(&program);
        let verdict = verdict.map_err(|stop| Stop::Fail(format!("{stop:?} in\n{program}")))?;
        match verdict {
            Verdict::Same => {}
            Verdict::Race(found) => {
                println!("seed {:#x} has several outcomes on the kernel: {}", program.seed, found.join("; "));
            }
            Verdict::Differs(found) => {
                tally.differing += 1;
                println!("seed {:#x} differs: {}", program.seed, found.join("; "));
                let (small, found) = pair.shrink(&program, found);
                print!("--- as little as shows it\n{small}");
                found.iter().for_each(|line| println!("# {line}"));
                println!("---");
            }
        }
    }
    Ok(tally)
}
