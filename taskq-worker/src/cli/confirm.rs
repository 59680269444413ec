//! The confirmation of commands that destroy something.

use std::io::{self, BufRead, IsTerminal, Write};

use super::exit::Exit;
use super::failure::Failure;
use super::output::plain;

/// Asks for confirmation on the terminal, unless `yes` was given on the command line. `what` is a phrase that follows
/// "this".
pub(super) fn confirm(what: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::new(Exit::Usage, format!("this {what}; add --yes to do it without being asked")));
    }
    let answer = ask(what).map_err(|error| {
        Failure::new(
            Exit::Usage,
            format!("the question whether to go on fails ({error}); add --yes to go on without it"),
        )
    })?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(Exit::Usage, "nothing was done")),
    }
}

fn ask(what: &str) -> io::Result<String> {
    let mut stderr = io::stderr().lock();
    write!(stderr, "This {}. Go on? [y/N] ", plain(what))?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer)
}
