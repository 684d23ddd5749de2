//! The shipped plugin `merge`, in Rust: sdk/merge_test.go holds the languages
//! together with it.

use edged::merge::RULE_NAMES;
use edged::prelude::*;

struct Merger {
    merge: Merge,
    local: bool,
}

edged::plugin!(Merger: resolve);

impl Plugin for Merger {
    fn configure(config: &mut Config) -> Self {
        let fields = config.map("fields");
        let fallback = config.string("default", "manual");
        let serve = config.string("serve", "server");
        let rule = match Rule::parse(&fallback) {
            Some(rule @ (Rule::Manual | Rule::Latest | Rule::Client | Rule::Server)) => rule,
            _ => {
                config.fail(format!("default must be manual, latest, client or server, not \"{}\"", fallback));
                Rule::Manual
            }
        };
        if serve != "client" && serve != "server" {
            config.fail(format!("serve must be client or server, not \"{}\"", serve));
        }
        let mut merge = Merge::new(rule);
        for (path, name) in fields {
            match Rule::parse(&name) {
                Some(rule) => merge = merge.rule(&path, rule),
                None => config.fail(format!("fields.{} is \"{}\"; rules are: {}", path, name, RULE_NAMES)),
            }
        }
        Merger { merge, local: serve == "client" }
    }
}

impl Resolve for Merger {
    fn resolve(&mut self, conflict: &Conflict, verdict: &mut Verdict) {
        let (local, remote) = (&conflict.local, &conflict.remote);
        if local.deleted && remote.deleted {
            return verdict.remote();
        }
        if local.deleted || remote.deleted {
            return verdict.manual("deleted on one side and changed on the other", self.local);
        }
        match self.merge.run(conflict) {
            Err(open) => verdict.manual(&format!("changed on both sides: {}", open.join(", ")), self.local),
            Ok(merged) if merged == remote.payload => verdict.remote(),
            Ok(merged) if merged == local.payload => verdict.local(),
            Ok(merged) => verdict.merged(&merged),
        }
    }
}
