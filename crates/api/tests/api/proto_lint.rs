//! What `buf lint` would say, without buf: every rule is a sentence in [`broken_rules`].

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use prost_types::field_descriptor_proto::Type;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, ServiceDescriptorProto,
};

/// Numbers of fields in the descriptors of descriptors, which make up the path of a comment.
mod number {
    pub(crate) const FILE_MESSAGE: i32 = 4;
    pub(crate) const FILE_ENUM: i32 = 5;
    pub(crate) const FILE_SERVICE: i32 = 6;
    pub(crate) const MESSAGE_FIELD: i32 = 2;
    pub(crate) const MESSAGE_NESTED: i32 = 3;
    pub(crate) const MESSAGE_ENUM: i32 = 4;
    pub(crate) const MESSAGE_ONEOF: i32 = 8;
    pub(crate) const ENUM_VALUE: i32 = 2;
    pub(crate) const SERVICE_METHOD: i32 = 2;
}

struct Linter<'a> {
    file: &'a FileDescriptorProto,
    commented: HashSet<&'a [i32]>,
    broken: Vec<String>,
}

impl<'a> Linter<'a> {
    fn new(file: &'a FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let commented = locations
            .filter(|l| !l.leading_comments().trim().is_empty())
            .map(|l| l.path.as_slice())
            .collect();
        Self { file, commented, broken: Vec::new() }
    }

    fn rule(&mut self, holds: bool, what: &str, rule: &str) {
        if !holds {
            self.broken.push(format!("{}: {what}: {rule}", self.file.name()));
        }
    }

    fn comment(&mut self, path: &[i32], what: &str) {
        self.rule(self.commented.contains(path), what, "has a comment");
    }

    fn file(&mut self) {
        let file = self.file;
        let folder = Path::new(file.name()).parent().unwrap().to_str().unwrap();
        self.rule(file.package().replace('.', "/") == folder, file.package(), "lies in its folder");
        let version = file.package().rsplit('.').next().unwrap();
        let versioned =
            version.strip_prefix('v').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        self.rule(versioned, file.package(), "ends in a version");
        self.rule(file.syntax() == "proto3", file.syntax(), "is proto3");
        for (i, message) in (0..).zip(&file.message_type) {
            self.message(&[number::FILE_MESSAGE, i], message);
        }
        for (i, words) in (0..).zip(&file.enum_type) {
            self.words(&[number::FILE_ENUM, i], words);
        }
        for (i, service) in (0..).zip(&file.service) {
            self.service(&[number::FILE_SERVICE, i], service);
        }
    }

    fn message(&mut self, path: &[i32], message: &DescriptorProto) {
        let name = message.name();
        self.comment(path, name);
        self.rule(is_pascal(name), name, "is PascalCase");
        for (i, field) in (0..).zip(&message.field) {
            let what = format!("{name}.{}", field.name());
            self.comment(&child(path, number::MESSAGE_FIELD, i), &what);
            self.rule(is_snake(field.name()), &what, "is lower_snake_case");
            let unitless = ["_ms", "_sec", "_secs", "_millis", "_meters", "_metres"];
            let clear = !unitless.iter().any(|unit| field.name().ends_with(unit));
            self.rule(clear, &what, "says its unit as the others do (_m, _s, _bytes, Duration)");
            let time = field.type_name() == ".google.protobuf.Timestamp";
            self.rule(
                !time || field.name().ends_with("time"),
                &what,
                "is a Timestamp, so ends in time",
            );
        }
        for (i, oneof) in (0..).zip(&message.oneof_decl) {
            if oneof.name().starts_with('_') {
                continue; // made by `optional`
            }
            let what = format!("{name}.{}", oneof.name());
            self.comment(&child(path, number::MESSAGE_ONEOF, i), &what);
        }
        for (i, nested) in (0..).zip(&message.nested_type) {
            self.message(&child(path, number::MESSAGE_NESTED, i), nested);
        }
        for (i, words) in (0..).zip(&message.enum_type) {
            self.words(&child(path, number::MESSAGE_ENUM, i), words);
        }
    }

    fn words(&mut self, path: &[i32], words: &EnumDescriptorProto) {
        let name = words.name();
        self.comment(path, name);
        let prefix = upper_snake(name);
        for (i, value) in (0..).zip(&words.value) {
            let what = format!("{name}.{}", value.name());
            self.comment(&child(path, number::ENUM_VALUE, i), &what);
            let prefixed = value.name().starts_with(&format!("{prefix}_"));
            self.rule(prefixed, &what, "begins with the name of its enum");
            let unspecified = value.name() == format!("{prefix}_UNSPECIFIED");
            self.rule(
                (value.number() == 0) == unspecified,
                &what,
                "is zero exactly when _UNSPECIFIED",
            );
        }
    }

    fn service(&mut self, path: &[i32], service: &ServiceDescriptorProto) {
        let name = service.name();
        self.comment(path, name);
        self.rule(name.ends_with("Service"), name, "ends in Service");
        for (i, method) in (0..).zip(&service.method) {
            let what = format!("{name}.{}", method.name());
            self.comment(&child(path, number::SERVICE_METHOD, i), &what);
            self.rule(is_pascal(method.name()), &what, "is PascalCase");
            for (type_name, ending) in
                [(method.input_type(), "Request"), (method.output_type(), "Response")]
            {
                let expected = format!(".{}.{}{ending}", self.file.package(), method.name());
                self.rule(type_name == expected, &what, "has request and response named after it");
            }
            let request = self
                .file
                .message_type
                .iter()
                .find(|m| method.input_type().ends_with(&format!(".{}", m.name())));
            let authority = request.and_then(|r| r.field.iter().find(|f| f.number() == 1));
            let carried = authority.is_some_and(|f| {
                f.name() == "authority"
                    && f.r#type() == Type::Message
                    && f.type_name() == ".guiji.v1.Authority"
            });
            self.rule(carried, &what, "carries the authority as field 1 of its request");
        }
    }
}

fn child(path: &[i32], number: i32, index: i32) -> Vec<i32> {
    [path, &[number, index]].concat()
}

fn is_snake(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && !name.starts_with('_')
        && !name.contains("__")
}

fn is_pascal(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn upper_snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}

fn broken_rules(root: &Path, files: &[PathBuf]) -> Vec<String> {
    let mut compiler = protox::Compiler::new([root]).unwrap();
    compiler.include_source_info(true).open_files(files).unwrap();
    let set = compiler.file_descriptor_set();
    assert_eq!(set.file.len(), files.len());
    set.file
        .iter()
        .flat_map(|file| {
            let mut linter = Linter::new(file);
            linter.file();
            linter.broken
        })
        .collect()
}

#[test]
fn the_contract_keeps_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let folder = std::fs::read_dir(root.join("guiji/v1")).unwrap();
    let files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 8, "{files:?}");
    let broken = broken_rules(&root, &files);
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn each_rule_is_enforced() {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("proto_lint");
    std::fs::create_dir_all(root.join("bad")).unwrap();
    let file = root.join("bad/bad.proto");
    let text = "syntax = \"proto3\";\npackage guiji.beta;\n\
        message lower { string camelCase = 1; oneof x { int32 took_ms = 2; } }\n\
        enum Word { NONE = 0; WORD_A = 1; }\n\
        service Words { rpc Get(lower) returns (lower); }\n";
    std::fs::write(&file, text).unwrap();
    let broken = broken_rules(&root, &[file]).join("\n");
    for expected in [
        "guiji.beta: lies in its folder",
        "guiji.beta: ends in a version",
        "lower: has a comment",
        "lower: is PascalCase",
        "lower.camelCase: has a comment",
        "lower.camelCase: is lower_snake_case",
        "lower.x: has a comment",
        "lower.took_ms: says its unit",
        "Word.NONE: begins with the name of its enum",
        "Word.NONE: is zero exactly when _UNSPECIFIED",
        "Words: ends in Service",
        "Words.Get: has a comment",
        "Words.Get: has request and response named after it",
        "Words.Get: carries the authority",
    ] {
        assert!(broken.contains(expected), "{expected} in\n{broken}");
    }
}
