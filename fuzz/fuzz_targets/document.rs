//! Whatever the bytes of a runbook and its inventory are, loading and planning end without a panic and what they say
//! can be drawn.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runbook::base::diagnostic::{Look, RenderStyle, SourceId, render, to_json};
use runbook::language::{LoadRequest, MemoryFiles, load};
use runbook::plan::{Material, build};

/// The line that ends the runbook and begins the inventory.
const BETWEEN: &[u8] = b"\n=====\n";

fuzz_target!(|data: &[u8]| {
    let registry = runbook::actions::registry();
    let split = data.windows(BETWEEN.len()).position(|window| window == BETWEEN);
    let (text, inventory) = match split {
        Some(at) => (&data[..at], &data[at + BETWEEN.len()..]),
        None => (data, &b""[..]),
    };
    let files = MemoryFiles::default().with("x.yaml", text.to_vec()).with("inventory.yaml", inventory.to_vec());
    let request = LoadRequest {
        runbook: Some("x.yaml".to_owned()),
        inventories: split.map(|_| "inventory.yaml".to_owned()).into_iter().collect(),
        ..LoadRequest::default()
    };
    let loaded = load(&request, &files, &registry);
    let at = loaded.sources.iter().position(|source| source.name == "x.yaml").unwrap_or_default();
    let material = Material {
        registry: &registry,
        inventory: &loaded.inventory,
        sources: &loaded.sources,
        file: SourceId(at.try_into().unwrap_or_default()),
    };
    let (_, more) = build(loaded.runbook, &material);
    let all = loaded.diagnostics.and(more);
    let text = render(&all, &loaded.sources, RenderStyle { look: Look::Plain, width: 80 });
    assert_eq!(text.is_empty(), all.is_empty());
    let _machine = to_json(&all, &loaded.sources);
});
