//! The contract may grow, and nothing in it may change: `testdata/contract.txt` has every message, field, value and
//! method that was ever promised.
//!
//! After an addition, accept it with
//! `GUIJI_ACCEPT_CONTRACT=1 cargo test -p guiji-api --test api compatibility`; lines that vanish or change are not
//! accepted even then.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use guiji_api::pb;
use prost::Message as _;
use prost_types::field_descriptor_proto::Label;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

fn promised() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/contract.txt")
}

/// What is on the wire and in generated code, one line each.
fn contract(set: &FileDescriptorSet) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in set.file.iter().filter(|file| file.package() == "guiji.v1") {
        let package = file.package();
        file.message_type.iter().for_each(|m| message(&mut lines, package, m));
        file.enum_type.iter().for_each(|e| words(&mut lines, package, e));
        for service in &file.service {
            for method in &service.method {
                let stream = |streams: bool| if streams { "stream " } else { "" };
                lines.insert(format!(
                    "rpc {package}.{}.{} ({}{}) returns ({}{})",
                    service.name(),
                    method.name(),
                    stream(method.client_streaming()),
                    method.input_type(),
                    stream(method.server_streaming()),
                    method.output_type()
                ));
            }
        }
    }
    lines
}

fn message(lines: &mut BTreeSet<String>, within: &str, message: &DescriptorProto) {
    let name = format!("{within}.{}", message.name());
    lines.insert(format!("message {name}"));
    for field in &message.field {
        let oneof =
            field.oneof_index.and_then(|i| message.oneof_decl.get(usize::try_from(i).ok()?));
        let oneof = oneof.map_or_else(String::new, |oneof| format!(" oneof {}", oneof.name()));
        let kind = match field.type_name() {
            "" => field.r#type().as_str_name(),
            named => named,
        };
        let repeated = if field.label() == Label::Repeated { "repeated " } else { "" };
        lines.insert(format!(
            "field {name} {} = {} {repeated}{kind}{oneof}",
            field.number(),
            field.name()
        ));
    }
    message.nested_type.iter().for_each(|m| self::message(lines, &name, m));
    message.enum_type.iter().for_each(|e| words(lines, &name, e));
}

fn words(lines: &mut BTreeSet<String>, within: &str, words: &EnumDescriptorProto) {
    let name = format!("{within}.{}", words.name());
    lines.insert(format!("enum {name}"));
    for value in &words.value {
        lines.insert(format!("value {name} {} = {}", value.number(), value.name()));
    }
}

fn of_protos(set: &[u8]) -> BTreeSet<String> {
    contract(&FileDescriptorSet::decode(set).unwrap())
}

/// What was promised and is no more.
fn broken<'a>(promised: &'a BTreeSet<String>, now: &'a BTreeSet<String>) -> Vec<&'a String> {
    promised.difference(now).collect()
}

#[test]
fn nothing_that_was_promised_has_changed() {
    let now = of_protos(pb::FILE_DESCRIPTOR_SET);
    let text = std::fs::read_to_string(promised()).unwrap_or_default();
    let before: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let broken = broken(&before, &now);
    assert!(broken.is_empty(), "removed, renumbered, renamed or of another type:\n{broken:#?}");
    if std::env::var_os("GUIJI_ACCEPT_CONTRACT").is_some() {
        let lines: Vec<_> = now.iter().map(String::as_str).collect();
        std::fs::write(promised(), lines.join("\n") + "\n").unwrap();
        return;
    }
    let added: Vec<_> = now.difference(&before).collect();
    assert!(
        added.is_empty(),
        "new in the contract; accept it with\n  GUIJI_ACCEPT_CONTRACT=1 cargo test -p guiji-api --test api compatibility\n\
         {added:#?}"
    );
}

#[test]
fn each_kind_of_breaking_change_is_seen() {
    let set = FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).unwrap();
    let before = contract(&set);
    assert!(before.len() > 300, "{}", before.len());
    let changed = |change: &dyn Fn(&mut prost_types::FileDescriptorProto)| {
        let mut set = set.clone();
        let file = set.file.iter_mut().find(|file| file.name().ends_with("/authority.proto"));
        change(file.unwrap());
        let now = contract(&set);
        broken(&before, &now).len()
    };
    assert_eq!(changed(&|_| ()), 0);
    assert_eq!(changed(&|f| drop(f.message_type[0].field.pop())), 1, "removed");
    assert_eq!(changed(&|f| f.message_type[0].field[1].number = Some(9)), 1, "renumbered");
    assert_eq!(changed(&|f| f.message_type[0].field[1].name = Some("x".into())), 1, "renamed");
    assert_eq!(changed(&|f| f.message_type[0].field[1].r#type = Some(5)), 1, "another type");
    assert_eq!(changed(&|f| f.message_type[0].field[1].label = Some(3)), 1, "repeated");
    assert_eq!(changed(&|f| f.message_type.clear()), 4, "the whole message");
    let mut grown = set.clone();
    let mut message =
        grown.file.iter().find(|f| f.name().ends_with("/authority.proto")).unwrap().message_type[0]
            .clone();
    message.name = Some("Another".into());
    let file = grown.file.iter_mut().find(|f| f.name().ends_with("/authority.proto")).unwrap();
    file.message_type.push(message);
    let grown = contract(&grown);
    assert!(
        grown.len() > before.len() && broken(&before, &grown).is_empty(),
        "additions break nothing"
    );
}
