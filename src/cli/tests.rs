//! The command line's form; what the commands do is tested with the real program.

use clap::CommandFactory;

use super::*;

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn usage_errors_and_help_are_told_apart() {
    for (arguments, code) in [
        (&["wharf"][..], 2),
        (&["wharf", "sail"], 2),
        (&["wharf", "serve", "--listen", "5000"], 2),
        (&["wharf", "serve", "--log-format", "xml"], 2),
        (&["wharf", "serve", "--dir", ""], 2),
        (&["wharf", "serve", "extra"], 2),
        (&["wharf", "config"], 2),
        (&["wharf", "healthcheck", "--admin", "localhost"], 2),
        (&["wharf", "pull"], 2),
        (&["wharf", "pull", "--file"], 2),
        (&["wharf", "ls", "--dir", ""], 2),
        (&["wharf", "pin"], 2),
        (&["wharf", "unpin", "--all"], 2),
        (&["wharf", "rm"], 2),
        (&["wharf", "rm", "Alpine"], 2),
        (&["wharf", "gc", "alpine"], 2),
        (&["wharf", "verify", "--rate", "20"], 2),
        (&["wharf", "verify", "alpine"], 2),
        (&["wharf", "status", "alpine"], 2),
        (&["wharf", "pin", "--help"], 0),
        (&["wharf", "unpin", "--help"], 0),
        (&["wharf", "rm", "--help"], 0),
        (&["wharf", "gc", "--help"], 0),
        (&["wharf", "verify", "--help"], 0),
        (&["wharf", "status", "--help"], 0),
        (&["wharf", "pull", "--help"], 0),
        (&["wharf", "explain", "--help"], 0),
        (&["wharf", "--version"], 0),
        (&["wharf", "--help"], 0),
        (&["wharf", "config", "check", "--help"], 0),
    ] {
        let error = Cli::try_parse_from(arguments).expect_err("nothing to run");
        assert_eq!(error.exit_code(), code, "{arguments:?}: {error}");
    }
}

#[test]
fn serve_takes_several_addresses() {
    let cli =
        Cli::try_parse_from(["wharf", "serve", "--listen", "127.0.0.1:1", "--listen", "[::1]:2"]);
    assert!(matches!(cli.expect("good").command, Command::Serve(_)));
}

#[test]
fn what_is_taken_where_no_platform_is_chosen_is_said_for_each_command() {
    for (name, default) in [("pull", "the site's own]"), ("export", "what is kept whole]")] {
        let mut command = Cli::command();
        let command = command.find_subcommand_mut(name).expect("a command");
        let help = command.clone().term_width(1000).render_help().to_string();
        let said = help.lines().find(|line| line.contains("--platform ")).expect("an option");
        assert!(said.ends_with(&format!("[default: platforms.keep, else {default}")), "{said}");
    }
}
