//! The Debian package, in a fresh root with only what Debian's smallest system has: installed, set up, used, upgraded
//! with mail in the spool, removed and purged.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mailferry::sandbox::App;

use crate::support::{Lab, PROGRAM, Plan, have, skipped};

const CLIENT_ID: &str = "12345678-1234-1234-1234-123456789abc";

const MAILBOX: &str = "notifications@example.com";

/// Runs a command, and returns its standard output.
fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{printed}");
    printed
}

/// Builds the package with this version, as `config/release deb` does. Returns its file.
fn package(version: &str) -> PathBuf {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut build = Command::new(format!("{root}/config/release"));
    let build = build.args(["deb", PROGRAM, "--fast", "--deb-version", version]);
    let printed = run(build.current_dir(root));
    let file = printed.lines().last().expect("the file's name");
    Path::new(root).join(file)
}

/// The packages of an older and of this version. They are built once, because both are built in the same folder.
static PACKAGES: LazyLock<[PathBuf; 2]> = LazyLock::new(|| ["0.0.9", "0.1.0"].map(package));

/// A Debian system in a folder.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let lists = [
            "/etc/apt/sources.list.d/debian.sources",
            "/etc/apt/sources.list",
        ];
        let list = lists.iter().find(|list| Path::new(list).exists())?;
        let release = std::fs::read_to_string("/etc/os-release").ok()?;
        let suite = release
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
        // The folder of a TempDir is private, and other users of the system must get through it.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("chmod");
        let place = folder.path().join("root");
        run(Command::new("mmdebstrap")
            .args([
                "--quiet",
                "--variant=minbase",
                "--include=ca-certificates",
                suite,
            ])
            .arg(&place)
            .arg(list));
        std::fs::write(place.join("etc/hosts"), "127.0.0.1 localhost\n").expect("writes");
        run(Command::new("chmod")
            .arg("644")
            .arg(place.join("etc/hosts")));
        Some(Self(folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("root").join(name)
    }

    /// Returns a command in the system, as this user.
    fn command(&self, user: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
        command
            .arg(format!(
                "--userspec={user}:{}",
                if user == "nobody" { "nogroup" } else { user }
            ))
            .arg(self.path(""))
            .args(["env", "-i", path])
            .args(arguments);
        command
    }

    fn as_root(&self, arguments: &[&str]) -> String {
        run(&mut self.command("root", arguments))
    }

    fn install(&self, package: &Path) {
        std::fs::copy(package, self.path("tmp/mailferry.deb")).expect("copies");
        self.as_root(&["dpkg", "--install", "/tmp/mailferry.deb"]);
    }

    /// Writes the configuration to /etc/mailferry.
    fn set_up(&self) {
        let app = ["--client-id", CLIENT_ID];
        self.as_root(&[&["mailferry", "setup", "--mailbox", MAILBOX][..], &app].concat());
    }

    /// Passes a message to sendmail, as a user of the system who may read no configuration.
    fn sendmail(&self, subject: &str) {
        let message = format!("printf 'Subject: {subject}\\n\\ntext\\n' | sendmail to@b.c");
        run(&mut self.command("nobody", &["sh", "-c", &message]));
    }

    fn exists(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// Starts the service as its unit does.
    fn serve(&self, lab: &mut Lab) {
        let ready = "install -d -o mailferry -g mailferry /run/mailferry";
        self.as_root(&["sh", "-c", ready]);
        let serve = [
            "mailferry",
            "serve",
            "--config",
            "/etc/mailferry/mailferry.toml",
        ];
        lab.start_by(self.command("mailferry", &serve));
    }
}

/// Makes a system for a test, if this machine has what that needs.
fn new_root(test: &str) -> Option<Root> {
    if !have(test, &["mmdebstrap", "dpkg-deb", "chroot"]) {
        return None;
    }
    if !is_root() {
        skipped(test, "it needs root, to make a Debian system in a folder");
        return None;
    }
    let root = Root::new();
    if root.is_none() {
        skipped(test, "this machine has no Debian package lists");
    }
    root
}

/// Puts the sandbox in place of Microsoft's hosts.
fn in_sandbox(root: &Root) -> Lab {
    let certificate = std::fs::read_to_string(root.path("etc/mailferry/app.pem")).expect("reads");
    let encoded: String = certificate
        .lines()
        .filter(|line| !line.starts_with("---"))
        .collect();
    let certificate = BASE64_STANDARD.decode(encoded).expect("base64");
    let file = root.path("etc/mailferry/mailferry.toml");
    let ours = "[oauth.microsoft]\ntoken_url = \"{token_url}\"\nca = \"ca.pem\"\n";
    let host =
        "grant = \"client_credentials\"\nhost = \"localhost\"\nport = {smtp}\nca = \"ca.pem\"\n";
    let configuration = std::fs::read_to_string(&file).expect("reads");
    let lab = Lab::stopped(Plan {
        apps: vec![App {
            id: CLIENT_ID.into(),
            certificates: vec![certificate.into()],
            ..App::default()
        }],
        configuration: configuration
            .replace("127.0.0.1:2525", "127.0.0.1:0")
            .replace("[oauth.microsoft]\n", ours)
            .replace("grant = \"client_credentials\"\n", host),
        ..Plan::default()
    });
    // The files keep their owner and mode.
    std::fs::write(
        &file,
        std::fs::read(lab.path("mailferry.toml")).expect("reads"),
    )
    .expect("writes");
    let ca = root.path("etc/mailferry/ca.pem");
    std::fs::write(&ca, &lab.sandbox.ca).expect("writes");
    // A simulated daemon in this process may have changed the umask.
    std::fs::set_permissions(&ca, std::fs::Permissions::from_mode(0o644)).expect("chmod");
    lab
}

/// Lets a group use the control socket, and checks what its members may do although they may not read /etc/mailferry.
fn members_of_a_group_may_look(root: &Root, lab: &mut Lab) {
    let member = |arguments: &[&str]| {
        let mut command = Command::new("chroot");
        command
            .arg("--userspec=nobody:operators")
            .arg(root.path(""))
            .args(["env", "-i", "PATH=/usr/bin:/bin", "mailferry"])
            .args(arguments);
        let output = command.output().expect("runs");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    root.as_root(&["groupadd", "operators"]);
    let (code, said) = member(&["status"]);
    assert!(
        code == Some(69) && said.contains("permission denied"),
        "{code:?} {said}"
    );
    lab.stop();
    let (code, said) = member(&["status"]);
    assert!(
        code == Some(69) && said.contains("[control]"),
        "{code:?} {said}"
    );

    root.as_root(&["usermod", "--append", "--groups", "operators", "mailferry"]);
    let with_group = "s/^socket = .*control.sock\"/&\\ngroup = \"operators\"/";
    root.as_root(&["sed", "-i", with_group, "/etc/mailferry/mailferry.toml"]);
    root.serve(lab);
    let (code, said) = member(&["status"]);
    assert!(
        code == Some(0) && said.contains("All is well"),
        "{code:?} {said}"
    );
    let (code, said) = member(&["hold", "notifications"]);
    assert!(
        code == Some(1) && said.contains("[control] access"),
        "{code:?} {said}"
    );

    let as_administrators = "s/^group = .operators./&\\naccess = \"administrator\"/";
    root.as_root(&[
        "sed",
        "-i",
        as_administrators,
        "/etc/mailferry/mailferry.toml",
    ]);
    lab.stop();
    root.serve(lab);
    for change in [["hold", "notifications"], ["release", "notifications"]] {
        assert_eq!(member(&change).0, Some(0), "{change:?}");
    }
}

#[test]
fn the_package_is_installed_used_upgraded_removed_and_purged() {
    let Some(root) = new_root("debian") else {
        return;
    };
    let [old, new] = &*PACKAGES;
    root.install(old);
    root.set_up();
    let key = root
        .path("etc/mailferry/app.key")
        .metadata()
        .expect("a key");
    let folder = root.path("etc/mailferry").metadata().expect("a folder");
    assert_eq!((key.mode() & 0o777, key.gid()), (0o640, folder.gid()));
    assert_ne!(key.gid(), 0);
    assert_eq!(folder.mode() & 0o7777, 0o2750);

    let mut lab = in_sandbox(&root);
    // Before the first start, root's commands make files that the service can use.
    let tested = root.as_root(&["mailferry", "test", "notifications", "--to", "to@b.c"]);
    assert!(tested.contains("to to@b.c: 250"), "{tested}");
    lab.delivered(1);
    root.serve(&mut lab);
    root.sendmail("first");
    assert!(lab.delivered(2)[1].text.contains("Subject: first"));
    // Commands find the running program from anywhere.
    let status = root.as_root(&["mailferry", "status"]);
    assert!(status.contains("All is well"), "{status}");

    root.as_root(&["mailferry", "hold", "notifications"]);
    root.sendmail("second");
    lab.stop();
    // The program is stopped: root's mail goes into its spool, and belongs to the service.
    let by_root = "printf 'Subject: third\\n\\ntext\\n' | sendmail to@b.c";
    root.as_root(&["sh", "-c", by_root]);
    root.install(new);
    assert!(
        root.as_root(&["dpkg", "-s", "mailferry"])
            .contains("Version: 0.1.0")
    );
    let mut owners = std::fs::read_dir(root.path("var/lib/mailferry/spool")).expect("reads");
    assert!(owners.all(|entry| entry.expect("a file").metadata().expect("a file").uid() != 0));
    root.serve(&mut lab);
    root.as_root(&["mailferry", "release", "notifications"]);
    lab.delivered(4);
    members_of_a_group_may_look(&root, &mut lab);

    root.as_root(&["mailferry", "hold", "notifications"]);
    root.sendmail("fourth");
    lab.stop();
    root.as_root(&["dpkg", "--remove", "mailferry"]);
    assert!(!root.exists("usr/bin/mailferry") && !root.exists("usr/sbin/sendmail"));
    assert!(root.exists("etc/mailferry/mailferry.toml"));
    root.as_root(&["dpkg", "--purge", "mailferry"]);
    assert!(!root.exists("etc/mailferry") && !root.exists("var/lib/mailferry/tokens"));
    assert!(
        root.exists("var/lib/mailferry/spool/spool.sqlite"),
        "mail is never purged"
    );
    // Installed and set up again, it delivers that mail.
    root.install(new);
    root.set_up();
    let mut lab = in_sandbox(&root);
    root.serve(&mut lab);
    root.as_root(&["mailferry", "release", "notifications"]);
    assert!(lab.delivered(1)[0].text.contains("Subject: fourth"));
    lab.stop();
}

/// The way of somebody who has only README: from the package to a message that the stand-in has received.
#[test]
fn a_newcomer_needs_few_commands() {
    let Some(root) = new_root("debian::newcomer") else {
        return;
    };
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let readme = readme.expect("reads");
    let file = "mailferry_0.1.0_amd64.deb";
    std::fs::copy(&PACKAGES[1], root.path(&format!("root/{file}"))).expect("copies");
    let way = [
        "apt install ./mailferry_VERSION_amd64.deb",
        "mailferry demo",
    ];
    let mut last = String::new();
    for command in way {
        assert!(readme.contains(&format!("`{command}`")), "{command}");
        let command = command.replace("VERSION", "0.1.0");
        // As typed, except that the demonstration ends after its messages.
        let command = command.replace("mailferry demo", "mailferry demo --once");
        last = root.as_root(&["sh", "-c", &format!("cd /root && {command}")]);
    }
    assert!(last.contains("delivered"), "{last}");
}

pub fn is_root() -> bool {
    run(Command::new("id").arg("-u")).trim() == "0"
}
