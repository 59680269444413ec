//! The known name that is most like a mistyped one.

/// The number of letters of a name that are compared. Names come from strangers too, and the work grows with their
/// length.
const LETTERS_MAX: usize = 100;

/// Returns the known name that is most like `name`, for the error texts of all crates of taskq.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known.into_iter().min_by_key(|known| distance(name, known))
}

/// Returns the known name that `name` is most likely a mistyped form of: one that differs by two letters at most, and
/// in short names by one.
pub fn misspelled<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters_max = if name.chars().count() < 6 { 1 } else { 2 };
    nearest(name, known).filter(|near| (1..=letters_max).contains(&distance(name, near)))
}

/// Returns the number of insertions, deletions and substitutions of letters between two names (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().take(LETTERS_MAX).enumerate() {
        let mut corner = std::mem::replace(&mut row[0], index + 1);
        for (column, candidate) in other.iter().enumerate() {
            let change = corner + usize::from(letter != *candidate);
            corner = row[column + 1];
            row[column + 1] = change.min(corner + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::misspelled;

    #[test]
    fn a_slip_is_told_from_another_name() {
        let known = ["shop.add", "shop.forgotten", "a.b"];
        for (name, expected) in [
            ("shop.ad", Some("shop.add")),
            ("shop.dad", Some("shop.add")),
            ("shop_add", Some("shop.add")),
            ("shop.forgotn", Some("shop.forgotten")),
            ("a.c", Some("a.b")),
            ("a.cd", None),
            ("shop.price", None),
            ("python.add", None),
            ("shop.add", None),
            ("", None),
        ] {
            assert_eq!(misspelled(name, known), expected, "{name}");
        }
        assert_eq!(misspelled("shop.ad", []), None);
    }
}
