//! The links of the documents lead somewhere.

use std::fs;

use crate::root;
use crate::words::files;

/// The targets of a page's links, `](TARGET)`, outside code blocks.
fn targets(text: &str) -> Vec<&str> {
    let prose = text.split("\n```").step_by(2);
    let links = prose.flat_map(|prose| prose.split("](").skip(1));
    links.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target).collect()
}

/// The anchor of a heading, as forges make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().replace(' ', "-")
}

#[test]
fn links_lead_to_a_file_and_a_heading() {
    let mut pages = Vec::new();
    files(&root(), &mut pages);
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    let (mut count, mut faults) = (0, Vec::new());
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for target in targets(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path =
                if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let found = path.exists()
                && (heading.is_empty() || {
                    let text = fs::read_to_string(&path).unwrap();
                    let mut headings = text.lines().filter(|line| line.starts_with('#'));
                    headings.any(|line| anchor(line.trim_start_matches('#')) == heading)
                });
            if !found {
                faults.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(count > 50, "only {count} links");
    assert!(faults.is_empty(), "dead links:\n{}", faults.join("\n"));
}
