//! What holds where nothing is given, as a `Config` and as a file to start from.

use super::keys::{KEYS, SECTIONS};
use super::sections::Config;
use super::value::Given;
use toml::de::DeValue;

impl Default for Config {
    /// The table's defaults; what is written here is only where they start from, and a test holds
    /// that all are overwritten.
    fn default() -> Config {
        let mut config = Config::blank();
        for key in KEYS {
            // A default that does not parse is caught by a test; the blank value then stays.
            if let Ok(value) = DeValue::parse(key.default) {
                let _ = (key.apply)(&mut config, &Given::Toml(value.get_ref()));
            }
        }
        config
    }
}

impl Config {
    /// The whole configuration as TOML, documented, every key commented out at its default.
    #[must_use]
    pub fn documented_default() -> String {
        let mut text = String::from(
            "# Configuration of `pilotfish agent`. Every key is shown at its default.\n\
             # Each can also be set in the environment, as PILOTFISH_SECTION_KEY.\n",
        );
        for (section, about) in SECTIONS {
            text.push_str(&format!("\n# {about}\n[{section}]\n"));
            for key in KEYS.iter().filter(|key| key.section == section) {
                text.push_str(&format!("# {}\n# {} = {}\n", key.doc, key.name, key.default));
            }
        }
        text
    }
}
