//! Work orders: the status only moves forward, notes are united, quantities added
//! up, and a person decides about the rest.

use edged::json::{get, set};
use edged::prelude::*;
use edged::text::string;

struct WorkOrder {
    merge: Merge,
}

edged::plugin!(WorkOrder: resolve);

// What the plugin says of itself: 'edged plugin sign' takes name and version from it.
edged::describe!(
    r#"{
      "name": "pluginname",
      "version": "0.1.0",
      "summary": "Merges work orders: the status only moves forward, notes are united, quantities added up",
      "kinds": ["resolve"],
      "needs": "payload"
    }"#
);

impl Plugin for WorkOrder {
    fn configure(_: &mut Config) -> Self {
        let merge = Merge::new(Rule::Manual)
            .rule("status", Rule::Server)
            .rule("notes", Rule::Union)
            .rule("quantity", Rule::Sum);
        WorkOrder { merge }
    }
}

fn rank(status: Option<&[u8]>) -> Option<usize> {
    let status = string(status?)?;
    ["open", "started", "done"].iter().position(|s| *s == status)
}

impl Resolve for WorkOrder {
    fn resolve(&mut self, conflict: &Conflict, verdict: &mut Verdict) {
        let (local, remote) = (&conflict.local, &conflict.remote);
        if local.deleted || remote.deleted {
            return verdict.manual("deleted on one side", false);
        }
        let mut merged = match self.merge.run(conflict) {
            Ok(merged) => merged,
            Err(open) => return verdict.manual(&format!("changed on both sides: {}", open.join(", ")), false),
        };
        let status = get(local.payload, "status");
        if rank(status) > rank(get(remote.payload, "status")) {
            merged = status.and_then(|status| set(&merged, "status", status)).unwrap_or(merged);
        }
        verdict.merged(&merged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edged::harness::{configure, resolve, TestVersion};

    const BASE: &str = r#"{"status":"open","notes":["a"],"quantity":5,"by":"x"}"#;

    fn run(local: &TestVersion, remote: &TestVersion) -> String {
        let mut plugin: WorkOrder = configure("{}").unwrap();
        resolve(&mut plugin, Some(&TestVersion::new(BASE)), local, remote)
    }

    #[test]
    fn merges_by_rules() {
        let local = TestVersion::new(r#"{"status":"done","notes":["a","b"],"quantity":7,"by":"x"}"#);
        let remote = TestVersion::new(r#"{"status":"started","notes":["a","c"],"quantity":4,"by":"x"}"#);
        assert_eq!(
            run(&local, &remote),
            r#"merged: {"status":"done","notes":["a","c","b"],"quantity":6,"by":"x"}"#
        );
    }

    #[test]
    fn asks_a_person() {
        let local = TestVersion::new(r#"{"status":"open","by":"y"}"#);
        let remote = TestVersion::new(r#"{"status":"open","by":"z"}"#);
        assert_eq!(run(&local, &remote), "manual: changed on both sides: by");
        assert_eq!(run(&TestVersion::deleted(), &remote), "manual: deleted on one side");
    }
}
