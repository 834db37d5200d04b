//! What a person sees while a pull goes on, on a terminal of 80 columns.

use std::{fs, process::Command};

use super::{BOTH, PLATFORMS, REPO, Running, Site};
use crate::support::{FakeHub, Fault, Gate, On};

const MIB: usize = 1 << 20;
const COLUMNS: usize = 80;

/// Begins a command on a terminal of its own.
fn on_a_terminal(site: &Site, arguments: &[&str]) -> Running {
    let words = site.complete(arguments).join("' '");
    let line =
        format!("stty cols {COLUMNS} rows 24; exec {} '{words}'", env!("CARGO_BIN_EXE_wharf"));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env("SHELL", "/bin/sh");
    Running::begin(command.current_dir(site.dir.path()), "")
}

/// The lines of a terminal on which `written` was written, and the widest line that was ever drawn. It knows what bars
/// are drawn with, and nothing else.
fn screen(written: &str) -> (Vec<String>, usize) {
    let (mut lines, mut row, mut column, mut widest) = (vec![Vec::new()], 0_usize, 0, 0);
    let mut rest = written.chars();
    while let Some(read) = rest.next() {
        match read {
            '\r' => column = 0,
            '\n' => row += 1,
            '\u{1b}' => {
                assert_eq!(rest.next(), Some('['), "{written:?}");
                let (mut count, mut end) = (0, None);
                for read in rest.by_ref() {
                    match read.to_digit(10) {
                        Some(digit) => count = 10 * count + digit as usize,
                        None => {
                            end = Some(read);
                            break;
                        }
                    }
                }
                match end {
                    Some('A') => row = row.saturating_sub(count.max(1)),
                    Some('B') => row += count.max(1),
                    Some('K') if count == 2 => lines[row].clear(),
                    other => panic!("{other:?} in {written:?}"),
                }
            }
            read => {
                // What is written behind the last column begins the next line.
                if column == COLUMNS {
                    (row, column) = (row + 1, 0);
                }
                lines.resize(lines.len().max(row + 1), Vec::new());
                let line: &mut Vec<char> = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = read;
                column += 1;
                if read != ' ' {
                    widest = widest.max(column);
                }
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    let text = |line: &Vec<char>| line.iter().collect::<String>().trim_end().to_owned();
    let mut lines: Vec<String> = lines.iter().map(text).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    (lines, widest)
}

#[test]
fn the_terminal_of_these_tests_knows_what_bars_are_drawn_with() {
    let (lines, _) = screen("one\r\ntwo\r\n\u{1b}[1A\u{1b}[2Kthree");
    assert_eq!(lines, ["one", "three"]);
    let (lines, widest) = screen(&format!("{}x", "y".repeat(COLUMNS)));
    assert_eq!((lines.len(), widest), (2, COLUMNS));
}

#[tokio::test]
async fn bars_are_drawn_in_80_columns_and_leave_what_is_worth_keeping() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let image = hub.push_image(REPO, "1", &PLATFORMS, &[3 * MIB, 2 * MIB, MIB]);
        let child = image.child("linux/arm64");
        let site = Site::start(&hub, daemon).await;
        // Slowly enough that each is seen on its way.
        hub.fault(On::Blobs, Fault::Pace(2 * MIB as u64));
        let arguments = ["pull", "--platform", "linux/arm64", "busybox:1", "busybox:nosuch"];
        let said = on_a_terminal(&site, &arguments).ended().await;
        assert_eq!(said.code, Some(1), "{said:?}");

        let (lines, _) = screen(&said.out);
        let name = "docker.io/library/busybox";
        let resolved = format!("{name}:1: {} for linux/arm64", image.index.digest);
        let done = format!("{name}:1: done, 6.00 MiB, of which 6.00 MiB were fetched");
        let failed =
            format!("wharf: {name}:nosuch: the registry has no such manifest in this repository");
        let end = "wharf: 1 of 2 images could not be fetched";
        // Two of them are longer than the terminal is wide.
        assert_eq!(lines.len(), 6, "{lines:#?}");
        assert_eq!(lines.concat(), [&resolved, &done, &failed, end].concat(), "{lines:#?}");

        // The bars themselves: of each layer while it comes, and of all of it from the beginning.
        let drawn: Vec<&str> = said.out.split(['\n', '\u{1b}']).collect();
        for layer in &child.layers {
            let name = &layer.digest.encoded()[..12];
            assert!(drawn.iter().any(|line| line.contains(name)), "{name}: {:?}", said.out);
        }
        assert!(said.out.contains("       total [") && said.out.contains(" of    6.00 MiB"));
        let bars = said.out.split(['\r', '\n']).filter(|line| line.contains(" of "));
        for bar in bars.filter(|line| line.contains('[')) {
            let (_, widest) = screen(bar);
            assert!(widest < COLUMNS, "{bar:?}");
        }
        assert!(!said.out.contains("GiB/s"), "what was here already is no speed: {:?}", said.out);
        site.end().await;
    }
}

#[tokio::test]
async fn bars_go_when_a_pull_is_interrupted() {
    for daemon in BOTH {
        let hub = FakeHub::start().await;
        let image = hub.push_single(REPO, "1", PLATFORMS[1], &[3 * MIB]);
        let gate = Gate::after(2_000_000);
        hub.fault(On::Blobs, Fault::Gate(gate.clone()));
        let site = Site::start(&hub, daemon).await;
        let running = on_a_terminal(&site, &["pull", "busybox:1"]);
        gate.halted(1).await;
        match &site.daemon {
            Some(daemon) => daemon.signal("TERM"),
            None => interrupt_within(&running),
        }
        let said = running.ended().await;
        assert_eq!(said.code, Some(1), "{said:?}");
        let (lines, _) = screen(&said.out);
        let name = "docker.io/library/busybox:1: ";
        let resolved = format!("{name}{}", image.manifest.digest);
        let ends = if daemon {
            format!(
                "wharf: {name}wharf is stopping; what is here is kept, and another pull goes on from it"
            )
        } else {
            "wharf: interrupted; what is here so far is kept".to_owned()
        };
        assert_eq!(lines.concat(), resolved + &ends, "{lines:#?}");
    }
}

/// Interrupts the command that runs on the terminal that `running` is.
fn interrupt_within(running: &Running) {
    let terminal = running.child.id();
    let within = fs::read_to_string(format!("/proc/{terminal}/task/{terminal}/children"));
    let within = within.expect("a running process has it");
    let kill = Command::new("kill").args(["-s", "INT"]).args(within.split_whitespace()).status();
    assert!(kill.expect("kill runs").success());
}
