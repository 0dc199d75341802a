//! The HTML report: one self-contained file without scripts, a document an auditor keeps.
//!
//! Start with [`render`]. The pictures are inline SVG, details fold with `<details>`, and the page is
//! made for light, dark and paper. Everything that came from outside is escaped by the templates.

mod evidence;
mod figures;
mod gantt;
mod page;
mod people;
mod source;
mod step;
mod value;

pub use page::render;
pub use source::{AuditHead, LogSource, LogTail, NoLogs};
