//! The command line for a process that goes on with the work of this one: the same program as a child, another program,
//! or a new build.
//!
//! Every user of the machine can read command lines, so URLs go into the environment of that process, where they mean
//! the same.

use std::ffi::OsString;

/// The flags that may hold passwords, the variables in their place, and the variables that would name a file instead.
/// The flag has won over that file, so the process is told of none.
const FLAGS: [(&str, &str, &str); 2] = [
    ("--broker", "TASKQ_BROKER_URL", "TASKQ_BROKER_URL_FILE"),
    ("--results", "TASKQ_RESULT_URL", "TASKQ_RESULT_URL_FILE"),
];

/// A command line without URLs, and the environment with them.
#[derive(Default)]
pub(super) struct HandedOver {
    pub(super) arguments: Vec<OsString>,
    pub(super) variables: Vec<(&'static str, OsString)>,
}

impl HandedOver {
    /// Returns what a process with the arguments of this one gets.
    pub(super) fn of_this_process() -> Self {
        Self::of(std::env::args_os().skip(1))
    }

    /// Returns what a process with these arguments gets.
    pub(super) fn of(arguments: impl IntoIterator<Item = OsString>) -> Self {
        let mut handed = Self::default();
        let mut words = arguments.into_iter();
        while let Some(word) = words.next() {
            // What follows are arguments of a task.
            if word == "--" {
                handed.arguments.push(word);
                handed.arguments.extend(words);
                break;
            }
            let flag = FLAGS.into_iter().find_map(|(flag, variable, file)| {
                let value = word.to_str()?.strip_prefix(flag)?;
                (value.is_empty() || value.starts_with('=')).then(|| (variable, file, value.strip_prefix('=')))
            });
            match flag {
                Some((variable, file, Some(value))) => handed.set(variable, file, value.into()),
                Some((variable, file, None)) => match words.next() {
                    Some(value) => handed.set(variable, file, value),
                    // A mistake, which that process will name.
                    None => handed.arguments.push(word),
                },
                None => handed.arguments.push(word),
            }
        }
        handed
    }

    fn set(&mut self, variable: &'static str, file: &'static str, value: OsString) {
        self.variables.extend([(variable, value), (file, OsString::new())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_leave_the_command_line() {
        for (line, arguments, variables) in [
            ("worker -c 4", "worker -c 4", ""),
            (
                "worker --broker amqp://u:p@h -c 4",
                "worker -c 4",
                "TASKQ_BROKER_URL=amqp://u:p@h TASKQ_BROKER_URL_FILE=",
            ),
            ("--results=redis://:p@h worker", "worker", "TASKQ_RESULT_URL=redis://:p@h TASKQ_RESULT_URL_FILE="),
            (
                "worker --broker= --results x",
                "worker",
                "TASKQ_BROKER_URL= TASKQ_BROKER_URL_FILE= TASKQ_RESULT_URL=x TASKQ_RESULT_URL_FILE=",
            ),
            ("worker --brokers x --result y", "worker --brokers x --result y", ""),
            ("call t --broker x -- --broker y", "call t -- --broker y", "TASKQ_BROKER_URL=x TASKQ_BROKER_URL_FILE="),
            ("worker --broker", "worker --broker", ""),
        ] {
            let handed = HandedOver::of(line.split(' ').map(OsString::from));
            let word = |word: &OsString| word.to_str().expect("it is text").to_owned();
            let found: Vec<String> = handed.arguments.iter().map(word).collect();
            let set: Vec<String> =
                handed.variables.iter().map(|(name, value)| format!("{name}={}", word(value))).collect();
            assert_eq!((found.join(" "), set.join(" ")), (arguments.to_owned(), variables.to_owned()), "{line}");
        }
    }
}
