//! `taskq -A path/to/app …`: hands over to the program that holds the tasks.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::process::Command;

use super::exit::Exit;
use super::failure::Failure;
use super::handed_over::HandedOver;

/// Returns the program that `-A` names and its arguments, if the command line begins with `-A`. The flag has to come
/// first, since everything behind it is for the other program.
pub(super) fn named_program(arguments: &[OsString]) -> Option<Result<(OsString, &[OsString]), Failure>> {
    let [_, first, rest @ ..] = arguments else { return None };
    let joined = ["--app=", "-A"].into_iter().find_map(|flag| first.to_str()?.strip_prefix(flag));
    match joined {
        Some(program) if !program.is_empty() => Some(Ok((program.into(), rest))),
        _ if first == "-A" || first == "--app" => Some(match rest {
            [program, rest @ ..] => Ok((program.clone(), rest)),
            [] => Err(Failure::new(Exit::Usage, "-A names a program: `taskq -A path/to/app worker`")),
        }),
        _ => None,
    }
}

/// Becomes that program. Where the system cannot do that, starts it and waits for its end.
pub(super) fn become_program(program: &OsStr, arguments: &[OsString]) -> Failure {
    let path = Path::new(program);
    if path.is_dir() {
        let text =
            format!("-A {}: this is a folder; name the program in it, for example target/release/app", path.display());
        return Failure::new(Exit::Usage, text);
    }
    // A mere name means a file in the working directory, as any path does, not one of the system's programs.
    let file = if path.components().count() == 1 { Path::new(".").join(path) } else { path.to_owned() };
    let HandedOver { arguments, variables } = HandedOver::of(arguments.iter().cloned());
    let error = exec(Command::new(file).args(arguments).envs(variables));
    let why = match error.kind() {
        io::ErrorKind::NotFound => "there is no such program; is it built, and is the path right from here?".to_owned(),
        io::ErrorKind::PermissionDenied => "this file may not be run; is it the program itself?".to_owned(),
        _ => error.to_string(),
    };
    Failure::new(Exit::Usage, format!("-A {}: {why}", path.display()))
}

/// Becomes `command`. Where the system cannot do that, starts it, waits for its end, and exits with its code.
#[cfg(unix)]
pub(super) fn exec(command: &mut Command) -> io::Error {
    use std::os::unix::process::CommandExt;
    command.exec()
}

#[cfg(not(unix))]
pub(super) fn exec(command: &mut Command) -> io::Error {
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_to_come_first() {
        let words = |line: &str| -> Vec<OsString> { line.split(' ').map(OsString::from).collect() };
        for (line, expected) in [
            ("taskq worker", None),
            ("taskq worker -A app", None),
            ("taskq -A app worker -c 2", Some(("app", 3))),
            ("taskq -Aapp worker", Some(("app", 1))),
            ("taskq --app=app", Some(("app", 0))),
            ("taskq --app app tasks", Some(("app", 1))),
        ] {
            let arguments = words(line);
            let found = named_program(&arguments).map(|asked| asked.expect("a program is named"));
            let found = found.as_ref().map(|(program, rest)| (program.to_str().expect("it is text"), rest.len()));
            assert_eq!(found, expected, "{line}");
        }
        assert!(named_program(&words("taskq -A")).expect("a program is asked for").is_err());
    }

    #[test]
    fn a_folder_and_a_missing_file_are_told_apart() {
        let folder = become_program(OsStr::new("/"), &[]);
        assert!(folder.message().expect("it says why").contains("this is a folder"));
        let missing = become_program(OsStr::new("/no/such/app"), &[]);
        assert!(missing.message().expect("it says why").contains("no such program"));
    }
}
