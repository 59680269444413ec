//! Patterns of node names, as a shell has them: `*`, `?`, `[abc]`, `[a-z]`, `[!abc]`.

/// Returns whether `pattern` describes all of `name`. A bracket that is not closed stands for itself.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // The last star, and the character of the name up to which it reaches: where the rest does not fit, it takes one
    // more. Earlier stars need not be asked again, so the time is that of one pass for each character at most.
    let (mut at, mut in_name, mut star) = (0, 0, None);
    while in_name < name.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at, in_name));
            at += 1;
        } else if let Some(length) = one(&pattern[at..], name[in_name]) {
            at += length;
            in_name += 1;
        } else if let Some((star_at, reach)) = star {
            star = Some((star_at, reach + 1));
            (at, in_name) = (star_at + 1, reach + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

/// Returns the length of the first element of `pattern` if it describes this character.
fn one(pattern: &[char], character: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => match set(pattern) {
            Some((excludes, members, length)) => (contains(members, character) != excludes).then_some(length),
            None => (character == '[').then_some(1),
        },
        literal => (*literal == character).then_some(1),
    }
}

/// Takes a set in brackets apart: whether it excludes its members, the members, and its length.
fn set(pattern: &[char]) -> Option<(bool, &[char], usize)> {
    let excludes = pattern.get(1) == Some(&'!');
    let first = 1 + usize::from(excludes);
    // A bracket that comes first is a member.
    let end = pattern.iter().skip(first + 1).position(|character| *character == ']')? + first + 1;
    Some((excludes, &pattern[first..end], end + 1))
}

fn contains(mut members: &[char], character: char) -> bool {
    while let [first, rest @ ..] = members {
        if let ['-', last, more @ ..] = rest {
            if (*first..=*last).contains(&character) {
                return true;
            }
            members = more;
        } else {
            if *first == character {
                return true;
            }
            members = rest;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_as_a_shell_does() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "celery@a", true),
            ("celery@*", "celery@a", true),
            ("celery@*", "other@a", false),
            ("*@a", "x@y@a", true),
            ("w?@a", "w1@a", true),
            ("w?@a", "w@a", false),
            ("w[12]@a", "w2@a", true),
            ("w[!12]@a", "w2@a", false),
            ("w[!12]@a", "w3@a", true),
            ("w[1-3]@a", "w2@a", true),
            ("w[1-3]@a", "w4@a", false),
            ("w[]]", "w]", true),
            ("w[", "w[", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_costly_pattern_is_answered_at_once() {
        assert!(!matches(&"*a".repeat(2000), &"a".repeat(1999)));
        assert!(matches(&"*a".repeat(2000), &"a".repeat(2000)));
    }
}
