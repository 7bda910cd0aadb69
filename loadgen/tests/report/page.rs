//! The page.

use bootstorm_loadgen::report::*;

use crate::fixture;
use crate::wellformed::elements;

#[test]
fn every_page_is_well_formed_and_opens_with_its_headline() {
    for report in [
        fixture::good(),
        fixture::bad(),
        fixture::invalid(),
        fixture::empty(),
        fixture::tiny(),
        fixture::hostile(),
    ] {
        let page = html::render(&report);
        let elements = elements(&page).unwrap();
        for name in ["main", "h1", "style", "script"] {
            assert_eq!(elements.iter().filter(|element| *element == name).count(), 1, "{name}");
        }
        let (_, after) = page.split_once("<h1>").unwrap();
        let (heading, _) = after.split_once("</h1>").unwrap();
        assert_eq!(
            heading
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&#39;", "'")
                .replace("&quot;", "\"")
                .replace("&amp;", "&"),
            headline(&report)
        );
    }
}

#[test]
fn a_page_needs_nothing_but_itself() {
    let page = html::render(&fixture::bad()).replace("http://www.w3.org/", "");
    for word in ["http:", "https:", "url(", "@import", "src=", "<iframe", "<object", "<img"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn foreign_text_stays_text() {
    let page = html::render(&fixture::hostile());
    assert!(!page.contains("alert(1)</script>") && !page.contains("<script>alert"));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(!page.contains('\u{202e}') && !page.contains('\u{1b}') && !page.contains('\0'));
}

#[test]
fn a_page_has_every_part_that_there_is_something_to_say_about() {
    let page = html::render(&fixture::bad());
    for words in [
        "Limits missed",
        "Machines by phase",
        "DHCP answers by the time they took",
        "Machines that came up, added up",
        "TFTP silent: boot.img",
        "machine 4711",
        "9a11f0e4c1d04b7fb2a8d7f64a3c8e50b6f7e1a2c3d4e5f60718293a4b5c6d7e",
        "--arrival 20s",
        "Seed <b>42</b>",
        "shared two cores",
        "violations.pcapng",
    ] {
        assert!(page.contains(words), "{words}");
    }
    for class in [
        "layer c-up",
        "layer c-given",
        "line c-answered",
        "area c-bytes",
        "heat h7",
        "area c-given",
    ] {
        assert!(page.contains(&format!("class=\"{class}\"")), "{class}");
    }
}

#[test]
fn parts_without_data_say_so() {
    let page = html::render(&fixture::empty());
    for words in [
        "No samples over time",
        "No DHCP answer was timed",
        "Nothing was timed",
        "No limits were asked for",
    ] {
        assert!(page.contains(words), "{words}");
    }
    assert!(!page.contains("<svg"));
    let mut report = fixture::good();
    report.tftp = Transfers::default();
    report.timeline.bytes.clear();
    assert!(html::render(&report).contains("No file was transferred"));
}

#[test]
fn any_number_of_buckets_is_drawn_in_a_page_of_bounded_size() {
    for buckets in [1, 2, 150, 600, 5_000] {
        let mut report = fixture::tiny();
        let time = &mut report.timeline;
        let wave = |index: usize| (index as u64).wrapping_mul(2_654_435_761) % 9_973;
        let list: Vec<u64> = (0..buckets).map(wave).collect();
        for of in [
            &mut time.sent,
            &mut time.answered,
            &mut time.bytes,
            &mut time.came_up,
            &mut time.phases.up,
        ] {
            of.clone_from(&list);
        }
        for row in &mut time.latency {
            row.clone_from(&list);
        }
        let page = html::render(&report);
        elements(&page).unwrap();
        assert!(page.len() < 600_000, "{buckets} buckets: {} bytes", page.len());
        assert!(!page.contains("NaN") && !page.contains("inf "));
    }
}
