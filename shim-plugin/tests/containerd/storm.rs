//! A real containerd that tells of a thousand task events a second, as a script has it publish them.

use crate::bed::{Agent, Bed, config};
use crate::{ids, in_namespace};
use containerd_client::events::{TaskCreate, TaskDelete, TaskExit, TaskStart};
use containerd_client::services::v1::PublishRequest;
use containerd_client::services::v1::events_client::EventsClient;
use prost::Message;
use shim_plugin::Connection;
use std::time::{Duration, Instant};

/// Lives of a container, of four events each.
const LIVES: u32 = 1000;
/// 250 lives a second.
const EACH: Duration = Duration::from_millis(4);
/// Above what the kernel numbers processes with: none of them is there.
const PIDS: u32 = 1 << 22;

fn event(topic: &str, name: &str, event: &impl Message) -> PublishRequest {
    let mut request = PublishRequest { topic: topic.to_owned(), event: Some(Default::default()) };
    if let Some(any) = &mut request.event {
        (any.type_url, any.value) = (format!("containerd.events.{name}"), event.encode_to_vec());
    }
    request
}

fn life(number: u32) -> [PublishRequest; 4] {
    let (container_id, pid) = (format!("told-{number}"), PIDS + number);
    let (id, of) = (container_id.clone(), container_id.clone());
    [
        event("/tasks/create", "TaskCreate", &TaskCreate { container_id: of, pid, ..Default::default() }),
        event("/tasks/start", "TaskStart", &TaskStart { container_id: container_id.clone(), pid }),
        event("/tasks/exit", "TaskExit", &TaskExit { container_id: id.clone(), id, pid, ..Default::default() }),
        event("/tasks/delete", "TaskDelete", &TaskDelete { container_id, pid, ..Default::default() }),
    ]
}

#[test]
fn a_thousand_task_events_a_second_hide_no_container_and_leave_nothing() {
    let bed = Bed::started();
    let agent = Agent::start(config(&bed));
    agent.wait("connected", |_, status| matches!(status.links[1].connection, Connection::Live));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let socket = bed.socket();
    let told = runtime.spawn(async move {
        let events = EventsClient::new(containerd_client::connect(socket).await.expect("containerd"));
        let mut ticks = tokio::time::interval(EACH);
        let began = Instant::now();
        for number in 0..LIVES {
            ticks.tick().await;
            for request in life(number) {
                events.clone().publish(in_namespace("pfc", request)).await.expect("it takes the event");
            }
        }
        began.elapsed()
    });
    for number in 0..5 {
        let name = format!("real-{number}");
        bed.run("pfc", &name, &[]);
        agent.wait("it is met in the storm", |done, _| ids(done).contains(&name.as_str()));
        bed.remove("pfc", &name);
    }
    let took = runtime.block_on(told).expect("all was told");
    assert!(took < Duration::from_secs(12), "{LIVES} lives took {took:?}: that is no storm");
    let all = u64::from(LIVES) + 5;
    agent.wait("nothing is left", |done, status| {
        let events = status.links[1].counts.events;
        // A link counts an event before the registry has it: the last life's are over when no task is left. A
        // containerd may forget the end of a task, so the deletes of real ones may not be waited for.
        done.attached.is_empty()
            && agent.status.tasks().is_empty()
            && status.tasks.namespaces == 0
            && events.remove >= 5
            && events.start >= all
            && events.delete >= u64::from(LIVES)
    });
    let counts = agent.read().links[1].counts;
    assert_eq!((counts.events.create, counts.events.start, counts.events_lost), (all, all, 0), "in {took:?}");
    drop(agent);
    bed.end();
}
