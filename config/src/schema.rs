//! The JSON schema of the format, for editors.
//!
//! Derived from the types; decides nothing.

use schemars::generate::SchemaSettings;

use crate::Config;

/// The JSON schema (draft 2020-12) of a configuration file, as indented JSON with a line break at the end.
pub fn schema() -> String {
    let schema = value();
    let text = serde_json::to_string_pretty(&schema).expect("a schema is made of strings, numbers, lists and maps");
    text + "\n"
}

/// The same as a value.
pub(crate) fn value() -> serde_json::Value {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>();
    schema.to_value()
}
