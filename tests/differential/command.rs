//! The program: `differential [--programs N] [--seed S] [--device NAME] [--kernel PATH] …`.

use std::process::ExitCode;

use dmaring::CompletionMode;

use super::compare::differences;
use super::feature::Features;
use super::generate::{Limits, generate};
use super::run::{Patience, run};
use super::side::{Side, enters};
use super::text;
use crate::case::{Bench, Stop, Version, fail};
use crate::support::loop_device::LoopDevice;

const USAGE: &str = "usage: differential [--programs N] [--seed S] [--device NAME|kernel] [--kernel PATH]
    [--features A,B…] [--without A,B…] [--replay FILE] [--print]";

#[derive(Debug)]
struct Arguments {
    programs: u64,
    seed: Option<u64>,
    device: String,
    kernel: Option<String>,
    features: Option<Features>,
    without: Features,
    replay: Option<String>,
    print: bool,
}

fn arguments() -> Result<Arguments, Stop> {
    let mut arguments = Arguments {
        programs: 300,
        seed: None,
        device: "model:".into(),
        kernel: None,
        features: None,
        without: Features::NONE,
        replay: None,
        print: false,
    };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().ok_or(Stop::Fail(format!("{name} takes a value\n{USAGE}")));
        let number = |text: String| super::names::number(&text).ok_or(Stop::Fail(format!("`{text}` is no number")));
        match name.as_str() {
            "--programs" => arguments.programs = number(value()?)?,
            "--seed" => arguments.seed = Some(number(value()?)?),
            "--device" => arguments.device = value()?,
            "--kernel" => arguments.kernel = Some(value()?),
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
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(Stop::Fail(reason) | Stop::Skip(reason)) => {
            eprintln!("differential: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<u64, Stop> {
    let arguments = arguments()?;
    let features = arguments.features.unwrap_or(Features::at(Version::running())).without(arguments.without);
    let limits = Limits { features, memory_alignment: 512 };
    let disk = LoopDevice::new(64 << 20, false).map_err(Stop::Fail)?;
    let on_kernel = |name: &str| Bench {
        backend: "kernel_loop",
        name: name.to_owned(),
        model: None,
        mode: CompletionMode::Interrupt,
    };
    let mut kernel = Side::new(on_kernel(disk.path()))?;
    let second = LoopDevice::new(64 << 20, false).map_err(Stop::Fail)?;
    let mut other = match arguments.device.as_str() {
        "kernel" => Side::new(on_kernel(second.path()))?,
        _ => {
            let device = dmaring::Device::open("model:64MiB")?;
            let mode = CompletionMode::Poll;
            Side::new(Bench { backend: "model", name: device.name(), model: Some(device), mode })?
        }
    };
    let (kernel_enters, other_enters) = (enters(&kernel)?, enters(&other)?);
    let mut differing = 0;
    let seed = arguments.seed.unwrap_or(1);
    let replayed = match &arguments.replay {
        Some(path) => Some(text::parse(&std::fs::read_to_string(path)?).map_err(Stop::Fail)?),
        None => None,
    };
    let programs = if replayed.is_some() { 1 } else { arguments.programs };
    println!("seed {seed:#x}");
    for i in 0..programs {
        let program = replayed.clone().unwrap_or_else(|| generate(seed.wrapping_add(i), limits));
        if arguments.print {
            print!("{program}");
        }
        let expected = run(&program, &mut kernel, kernel_enters, Patience::default())?;
        let got = run(&program, &mut other, other_enters, Patience::default())?;
        let found = differences(&program, &expected, &got);
        if !found.is_empty() {
            differing += 1;
            println!("{program}");
            found.iter().for_each(|line| println!("# {line}"));
        }
    }
    println!("programs {programs}, differing {differing}");
    Ok(differing)
}
