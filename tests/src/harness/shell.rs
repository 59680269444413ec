//! Reading lines of a shell, as far as documents use it.

/// The commands of a line, each as its words, without quotes, variables set before it, `sudo` and redirections. Those
/// of a substitution `$(…)` come before the command that they are in. Comments are none.
///
/// # Panics
///
/// If a quote or a substitution does not end.
pub fn commands(line: &str) -> Vec<Vec<String>> {
    let mut reader = Reader { commands: Vec::new(), words: Vec::new(), word: None, is_redirected: false };
    let mut rest = line;
    while let Some(sign) = rest.chars().next() {
        let after = &rest[sign.len_utf8()..];
        rest = match sign {
            '#' if reader.word.is_none() => "",
            '\'' => {
                let (text, after) = after.split_once('\'').unwrap_or_else(|| panic!("a quote does not end: {line}"));
                reader.word().push_str(text);
                after
            }
            '"' => reader.quoted(after),
            '\\' => {
                let escaped = after.chars().next().unwrap_or('\\');
                reader.word().push(escaped);
                after.strip_prefix(escaped).unwrap_or(after)
            }
            '$' if after.starts_with('(') => reader.substitution(after),
            // `2>&1`, `> file`: the number before it and the word behind it are no words of the command.
            '>' | '<' => {
                reader.word = None;
                reader.is_redirected = true;
                after.trim_start_matches(['>', '&'])
            }
            ';' | '|' | '&' | '\n' => {
                reader.end_command();
                after
            }
            ' ' | '\t' => {
                reader.end_word();
                after
            }
            sign => {
                reader.word().push(sign);
                after
            }
        };
    }
    reader.end_command();
    reader.commands
}

struct Reader {
    commands: Vec<Vec<String>>,
    words: Vec<String>,
    /// The word that is being read; `''` is one, too.
    word: Option<String>,
    /// The next word names a file.
    is_redirected: bool,
}

impl Reader {
    fn word(&mut self) -> &mut String {
        self.word.get_or_insert_default()
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        let name = word.split_once('=').map(|(name, _)| name);
        let sets_variable = name.is_some_and(|name| name.chars().all(|sign| sign.is_ascii_uppercase() || sign == '_'));
        let is_before = self.words.is_empty() && (sets_variable || word == "sudo");
        if !std::mem::take(&mut self.is_redirected) && !is_before {
            self.words.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        let words = std::mem::take(&mut self.words);
        if !words.is_empty() {
            self.commands.push(words);
        }
    }

    /// Reads up to the closing `"`, and returns the rest.
    fn quoted<'a>(&mut self, mut rest: &'a str) -> &'a str {
        self.word();
        loop {
            let sign = rest.chars().next().expect("a quote ends");
            let after = &rest[sign.len_utf8()..];
            rest = match sign {
                '"' => return after,
                '$' if after.starts_with('(') => self.substitution(after),
                sign => {
                    self.word().push(sign);
                    after
                }
            };
        }
    }

    /// Reads from `(` to `)`, and returns the rest.
    fn substitution<'a>(&mut self, rest: &'a str) -> &'a str {
        let end = rest.find(')').expect("a substitution ends");
        self.commands.extend(commands(&rest[1..end]));
        self.word().push_str("$()");
        &rest[end + 1..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_a_shell_reads_them() {
        for (line, expected) in [
            ("", vec![]),
            ("# nothing", vec![]),
            ("a b  c # d", vec![vec!["a", "b", "c"]]),
            ("a 'b c' \"d e\" '' f\\ g#", vec![vec!["a", "b c", "d e", "", "f g#"]]),
            ("X=1 Y_Z='2 3' a x=1", vec![vec!["a", "x=1"]]),
            ("X=1", vec![]),
            ("sudo a b", vec![vec!["a", "b"]]),
            ("a && b; c | d &", vec![vec!["a"], vec!["b"], vec!["c"], vec!["d"]]),
            ("a > b 2>&1 &", vec![vec!["a"]]),
            ("a 2> b c", vec![vec!["a", "c"]]),
            ("eval \"$(b c)\"", vec![vec!["b", "c"], vec!["eval", "$()"]]),
            ("kill $!; wait", vec![vec!["kill", "$!"], vec!["wait"]]),
        ] {
            assert_eq!(commands(line), expected, "{line}");
        }
    }
}
