//! The program without libraries: on a bare root, and in a container.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::{Lab, Plan, SERVER, USUAL, have, skipped};

/// Returns the program that tests/run has built without libraries.
fn program(test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("MAILFERRY_STATIC").map(PathBuf::from);
    let found = path.filter(|path| path.exists());
    if found.is_none() {
        skipped(test, "there is no program without libraries; run tests/run");
    }
    found
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("runs");
    id.stdout == b"0\n"
}

fn ended(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("runs")
}

fn succeeded(command: &mut Command) -> String {
    let output = ended(command);
    let said = String::from_utf8_lossy(&output.stderr);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{printed}");
    printed
}

/// Lets every user read a folder. A simulated daemon in this process may have changed the umask.
fn readable(folder: &Path) {
    succeeded(Command::new("chmod").args(["-R", "a+rX"]).arg(folder));
}

/// Makes the devices that every container has.
fn devices(root: &Path) {
    std::fs::create_dir_all(root.join("dev")).expect("makes");
    for (name, minor) in [("null", "3"), ("random", "8"), ("urandom", "9")] {
        let node = root.join("dev").join(name);
        succeeded(
            Command::new("mknod")
                .args(["-m", "666"])
                .arg(node)
                .args(["c", "1", minor]),
        );
    }
}

#[test]
fn it_runs_on_a_bare_root() {
    let test = "static_program::bare_root";
    let Some(program) = program(test) else {
        return;
    };
    if !is_root() {
        return skipped(test, "it needs root, to change the root");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    for name in ["tmp", "etc"] {
        std::fs::create_dir(root.join(name)).expect("makes");
    }
    std::fs::copy(program, root.join("mailferry")).expect("copies");
    std::fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").expect("writes");
    devices(root);
    let shown = succeeded(
        Command::new("chroot")
            .arg(root)
            .args(["/mailferry", "demo", "--once"]),
    );
    assert!(shown.contains("reported to warehouse@erp.local"), "{shown}");
}

/// Buildah with storage of its own.
fn buildah(folder: &Path) -> Command {
    let mut command = Command::new("buildah");
    command
        .args(["--storage-driver", "vfs", "--root"])
        .arg(folder.join("storage"));
    command.arg("--runroot").arg(folder.join("run"));
    command
}

#[test]
fn the_container_sends_and_tells_its_health() {
    let test = "static_program::container";
    let Some(program) = program(test) else {
        return;
    };
    if !have(test, &["buildah"]) {
        return;
    }
    if !is_root() {
        return skipped(test, "it needs root, to build an image");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    // In place of the stage that compiles.
    let image = at.join("build/image");
    for name in ["usr/bin", "etc/ssl/certs", "var/lib/mailferry", "tmp"] {
        std::fs::create_dir_all(image.join(name)).expect("makes");
    }
    std::fs::copy(program, image.join("usr/bin/mailferry")).expect("copies");
    let roots = "etc/ssl/certs/ca-certificates.crt";
    std::fs::copy(Path::new("/").join(roots), image.join(roots)).expect("copies");
    readable(&image);
    let context = format!("build={}", at.join("build").display());
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/Containerfile");
    succeeded(
        buildah(at)
            .args([
                "bud",
                "--isolation",
                "chroot",
                "--format",
                "docker",
                "--build-context",
            ])
            .arg(context)
            .args(["--tag", "mailferry", "--file"])
            .arg(recipe)
            .arg(env!("CARGO_MANIFEST_DIR")),
    );
    let described = succeeded(buildah(at).args(["inspect", "--type", "image", "mailferry"]));
    for part in ["mailferry", "--ready", "65532:65532", "SIGTERM"] {
        assert!(described.contains(part), "no {part} in {described}");
    }
    let container = succeeded(buildah(at).args(["from", "mailferry"]));
    let root = succeeded(buildah(at).args(["mount", container.trim()]));
    let root = Path::new(root.trim());
    let configuration = USUAL
        .replace(
            "password = { file = \"erp.argon2\" }",
            "networks = [\"127.0.0.1\"]",
        )
        .replace("data_dir = \"data\"", "data_dir = \"/var/lib/mailferry\"");
    devices(root);
    let mut lab = Lab::stopped(Plan {
        configuration: configuration + SERVER,
        ..Plan::default()
    });
    let etc = root.join("etc/mailferry");
    std::fs::create_dir_all(&etc).expect("makes");
    for name in ["mailferry.toml", "ca.pem"] {
        std::fs::copy(lab.path(name), etc.join(name)).expect("copies");
    }
    std::fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n").expect("writes");
    readable(root);
    succeeded(
        Command::new("chown")
            .args(["-R", "65532:65532"])
            .arg(root.join("var/lib/mailferry")),
    );
    // Runs the program as the container does: in its root, as its user, and with its environment.
    let within = |arguments: &[&str]| {
        let mut command = Command::new("/usr/sbin/chroot");
        command
            .args(["--userspec=65532:65532"])
            .arg(root)
            .arg("/usr/bin/mailferry")
            .args(arguments)
            .env_clear()
            .env("TEST_SECRET", "sandbox-secret")
            .env("MAILFERRY_CONFIG", "/etc/mailferry/mailferry.toml")
            .env("STATE_DIRECTORY", "/var/lib/mailferry");
        command
    };
    assert_eq!(
        ended(&mut within(&["status", "--ready"])).status.code(),
        Some(69)
    );
    lab.start_by(within(&["serve"]));
    assert_eq!(succeeded(&mut within(&["status", "--ready"])), "ready\n");
    let mut client = crate::support::Smtp::connect(lab.address);
    client.expect("EHLO app", "250");
    client.send("a@b.c", &["to@b.c"], "Subject: in a container\r\n\r\nx\r\n");
    assert!(lab.delivered(1)[0].text.contains("Subject: in a container"));
    succeeded(&mut within(&["hold", "notifications"]));
    let held = ended(&mut within(&["status", "--ready"]));
    assert_eq!(held.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&held.stdout).contains("not ready: all sending servers are held")
    );
    lab.stop();
    succeeded(buildah(at).args(["rm", "--all"]));
}
