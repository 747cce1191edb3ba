//! Containers as Docker makes them: a label that says nothing, and a file of its own below its data root.

use crate::bed::{Agent, Bed, config, wait};
use shim_plugin::{Config, Connection};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A data root laid out as Docker does.
struct DataRoot(PathBuf);

impl DataRoot {
    fn of(&self, id: &str) -> PathBuf {
        self.0.join("containers").join(id)
    }

    /// As Docker does it: a new file takes the old one's place.
    fn write(&self, id: &str, name: &str, labels: &str) {
        let text = format!(
            r#"{{"StreamConfig":{{}},"State":{{"Running":false,"Pid":0}},"ID":"{id}","Managed":false,"Path":"sleep",
"Config":{{"Hostname":"{}","Image":"busybox","Volumes":null,"Labels":{labels}}},"Name":"/{name}","Driver":"overlay2"}}"#,
            &id[..12]
        );
        let new = self.of(id).join(".tmp-config.v2.json");
        fs::write(&new, text).expect("a file");
        fs::rename(new, self.of(id).join("config.v2.json")).expect("a file");
    }

    /// Runs a container whose files for the network are those of `network`.
    fn run(&self, bed: &Bed, id: &str, network: &str) {
        fs::create_dir_all(self.of(id)).expect("a directory");
        fs::create_dir_all(self.of(network)).expect("a directory");
        let hostname = self.of(network).join("hostname");
        fs::write(&hostname, "x\n").expect("a file");
        let mount = format!("type=bind,src={},dst=/etc/hostname,options=rbind:rprivate", hostname.display());
        let bundle = format!("com.docker/engine.bundle.path=/run/docker/containerd/{id}");
        let mut more = vec!["--label", &bundle, "--mount", &mount];
        let netns;
        if id != network {
            netns = format!("network:/proc/{}/ns/net", bed.pid("moby", network));
            more.extend(["--with-ns", &netns]);
        }
        bed.run("moby", id, &more);
    }
}

#[test]
fn dockers_containers_are_called_by_name_and_a_new_name_is_seen_at_the_next_list() {
    let bed = Bed::started();
    let root = DataRoot(Path::new(&bed.runc_root()).with_file_name("data-root"));
    fs::create_dir_all(bed.rootfs().join("etc")).expect("a directory");
    fs::write(bed.rootfs().join("etc/hostname"), "").expect("a file to mount over");
    let [web, shop, side, late] = ["1", "2", "3", "4"].map(|digit| digit.repeat(64));
    let config = Config { reconcile_every: Duration::from_secs(1), ..config(&bed) };
    for id in [&web, &shop, &side, &late] {
        fs::create_dir_all(root.of(id)).expect("a directory");
    }
    root.write(&web, "web", "{}");
    root.write(&shop, "shop-cart-1", r#"{"com.docker.compose.project":"shop","com.docker.compose.service":"cart"}"#);
    root.write(&side, "side", "null");

    // One by the list, the others by their events.
    root.run(&bed, &web, &web);
    let agent = Agent::start(config);
    agent.wait("connected", |_, status| matches!(status.links[1].connection, Connection::Live));
    root.run(&bed, &shop, &shop);
    root.run(&bed, &side, &web);
    root.run(&bed, &late, &late);
    let names = |done: &crate::bed::Done| -> Vec<String> {
        let mut names: Vec<String> = done.names.values().cloned().collect();
        names.sort_unstable();
        names
    };
    // The file of one is not there: it has its id, until the file comes.
    agent.wait("all are named", |done, _| names(done) == [&late[..12], "shop-cart", "web"]);
    agent.wait("what could not be read is counted", |_, status| status.links[1].counts.docker_unread > 0);
    root.write(&late, "late", "{}");
    root.write(&web, "renamed", "{}");
    agent.wait("new names are seen", |done, _| names(done) == ["late", "renamed", "shop-cart"]);

    // A change of what containerd knows takes no name away.
    let updates = agent.read().links[1].counts.events.update;
    bed.ctr("moby", &["container", "label", &web, "some=thing"]).expect("a label");
    agent.wait("the change was seen", |_, status| status.links[1].counts.events.update > updates);
    assert_eq!(names(&agent.done()), ["late", "renamed", "shop-cart"]);

    // Who shares its namespace stays, and is who lives there now.
    bed.remove("moby", &web);
    agent.wait("the other one's name is taken", |done, _| names(done) == ["late", "shop-cart", "side"]);
    let unread = agent.read().links[1].counts.docker_unread;
    wait("two more lists", || agent.read().links[1].counts.reconciles > 6);
    assert_eq!(agent.read().links[1].counts.docker_unread, unread, "who is gone is not asked after");
    drop(agent);
    bed.end();
}
