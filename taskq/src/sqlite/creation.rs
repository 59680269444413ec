//! Creation of files with the right mode from the beginning.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::access::FileMode;

/// Creates a file with these permissions, independent of the umask. Fails if there is anything of that name, a symbolic
/// link included. No other process sees the file with fewer permissions: it would make companions that the group cannot
/// use.
pub(super) fn create(path: &Path, bits: u32) -> io::Result<File> {
    let narrowest = FileMode::Owner.bits();
    if bits == narrowest || cfg!(not(unix)) {
        return create_narrow(path, bits);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!("-{}.new", uuid::Uuid::now_v7().simple()));
    let beside = PathBuf::from(beside);
    let file = create_narrow(&beside, narrowest)?;
    // Unlike a rename, a link does not replace what is there.
    let made = set_bits(&file, bits).and_then(|()| fs::hard_link(&beside, path));
    let removed = fs::remove_file(&beside);
    made.and(removed).map(|()| file)
}

#[cfg(unix)]
fn create_narrow(path: &Path, bits: u32) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().read(true).write(true).create_new(true).mode(bits).open(path)
}

#[cfg(not(unix))]
fn create_narrow(path: &Path, _bits: u32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

#[cfg(unix)]
fn set_bits(file: &File, bits: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(bits))
}

#[cfg(not(unix))]
fn set_bits(_file: &File, _bits: u32) -> io::Result<()> {
    Ok(())
}

/// Creates a file beside another one, for the same users. If this process is root's, the file belongs to the other
/// one's owner, who could not use it otherwise.
pub(super) fn create_beside(other: &Path, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let about = fs::metadata(other)?;
        let file = create(path, about.mode() & 0o666)?;
        // Nobody but root may give a file away; to others the file's users are those that its mode names.
        let _ = fchown(&file, Some(about.uid()), Some(about.gid()));
        Ok(file)
    }
    #[cfg(not(unix))]
    {
        let _ = other;
        create(path, FileMode::Owner.bits())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::access::Permissions;

    #[test]
    fn a_file_is_made_with_its_mode_or_not_at_all() {
        let folder = std::env::temp_dir().join(format!("taskq-access-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&folder).expect("the temporary folder can be written");
        for mode in [FileMode::Owner, FileMode::Group] {
            let (path, link) = (folder.join(mode.text()), folder.join(format!("{}-link", mode.text())));
            create(&path, mode.bits()).expect("there is no such file");
            assert_eq!(Permissions::of(&path).expect("it is there").mode, mode.bits());
            let beside = folder.join(format!("{}-beside", mode.text()));
            create_beside(&path, &beside).expect("there is no such file");
            assert_eq!(Permissions::of(&beside), Permissions::of(&path));
            symlink(folder.join("elsewhere"), &link).expect("the folder can be written");
            for taken in [&path, &link] {
                let error = create(taken, mode.bits()).expect_err("something is there");
                assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
            }
        }
        assert!(!folder.join("elsewhere").exists(), "no link is followed");
        assert_eq!(fs::read_dir(&folder).expect("it is there").count(), 6, "nothing is left beside them");
        drop(fs::remove_dir_all(folder));
    }
}
