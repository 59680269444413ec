//! The first five minutes: the quickstart gives the right table, with nothing configured and on real servers.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Map, Value, json};
use taskq_tests::harness::{Finished, Folder, Servers, quickstart, unique};

/// A folder with files of every sort. Deleted when dropped.
struct Files(PathBuf);

/// How many files [`Files`] has that count.
const FILES: usize = 48;

impl Files {
    fn make() -> Self {
        let files = Self(std::env::temp_dir().join(unique("taskq-files")));
        let words =
            ["apple", "Banana", "cherry", "damson", "elder", "fig", "grape", "Straße", "ÄPFEL", "naïve", "слово"];
        for number in 0..40_usize {
            let count = number * 37 % 400;
            let text: Vec<_> = (0..count).map(|n| words[(n * n + number) % words.len()]).collect();
            files.write(
                &format!("folder {}/deep/er/text-{number}.txt", number % 7),
                text.join(", ").replace(", f", "\nf"),
            );
        }
        files.write("empty", "");
        files.write("no newline at the end", "one\ntwo\nthree");
        files.write("only newlines", "\n\n\n\n");
        files.write("ünï cödé/文件.md", "Größe größe GRÖSSE, 文件 文件\r\n");
        files.write("binary.bin", (0..=255).cycle().take(100_000).collect::<Vec<u8>>());
        files.write("broken utf-8", b"good \xff\xfe words \xc3 words\nand \xe2\x82 more words");
        files.write("large", "lorem ipsum dolor sit amet\n".repeat(60_000));
        files.write("it's \"quoted\" & <odd>.txt", "quoted quoted words");
        // None of these counts.
        files.write(".hidden/file", "hidden words");
        files.write("deep/target/built", "built words");
        files
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("it is in a folder"))
            .expect("the temporary folder can be written");
        std::fs::write(path, content).expect("the temporary folder can be written");
    }

    /// The right findings by path, computed by Python.
    fn findings(&self) -> Map<String, Value> {
        let python = std::env::var("TASKQ_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/examine.py");
        let output = Command::new(python).arg(script).arg(&self.0).output().expect("there is a Python");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("it prints one object")
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("the temporary folder has a Unicode path")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // It is in the temporary folder.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn assert_right(finished: Finished, files: &Files) {
    let finished = finished.expect_exit(0);
    let document: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished}"));
    assert_eq!(document["failures"], json!([]), "{finished}");
    assert_eq!(document["retries"], 0);
    let mut found = Map::new();
    for report in document["reports"].as_array().expect("reports are a list") {
        let mut report = report.as_object().expect("each is an object").clone();
        let path =
            report.remove("path").and_then(|path| path.as_str().map(str::to_owned)).expect("each names its file");
        assert!(found.insert(path.clone(), Value::Object(report)).is_none(), "{path} was reported twice");
    }
    let expected = files.findings();
    assert_eq!(expected.len(), FILES, "the independent computation sees every file");
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, report) in &expected {
        assert_eq!(&found[path], report, "{path}");
    }
}

#[test]
fn with_nothing_configured_it_is_right() {
    let (files, here) = (Files::make(), Folder::new("quickstart"));
    assert_right(quickstart().folder(&here).run(&[files.path(), "--json"]), &files);
    assert!(here.path().join("taskq.db").exists(), "it was on the embedded file");
}

#[test]
fn on_rabbitmq_and_redis_it_is_right() {
    let Some(servers) = Servers::from_env() else { return };
    let files = Files::make();
    assert_right(quickstart().servers(&servers).run(&[files.path(), "--json"]), &files);
}

#[test]
fn people_get_a_table_with_the_largest_files_and_the_totals() {
    let (files, here) = (Files::make(), Folder::new("quickstart"));
    let finished = quickstart().folder(&here).run(&[files.path()]).expect_exit(0);
    let lines: Vec<_> = finished.stdout.lines().collect();
    let mut expected: Vec<_> = files.findings().into_iter().collect();
    let bytes = |finding: &Value| finding["bytes"].as_u64().expect("a number");
    expected
        .sort_by(|(path, one), (other_path, other)| bytes(other).cmp(&bytes(one)).then_with(|| path.cmp(other_path)));
    for (row, (path, finding)) in expected.iter().take(3).enumerate() {
        let line = lines[row + 1];
        let name = path.rsplit('/').next().expect("a path has a name");
        let digest = &finding["digest"].as_str().expect("a text")[..12];
        assert!(
            line.contains(&finding["bytes"].to_string()) && line.contains(digest) && line.ends_with(name),
            "{line}"
        );
    }
    let totals = lines.last().expect("there are some");
    assert!(totals.starts_with(&format!("{FILES} tasks, 0 failed, 0 retries, ")), "{totals}");
    assert!(totals.ends_with(" tasks/s"), "{totals}");
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let finished = quickstart().run(&["/nowhere/at all"]);
    assert_eq!(finished.exit, 1, "{finished}");
    assert!(finished.stderr.starts_with("error: ") && finished.stderr.contains("/nowhere/at all"), "{finished}");
}
