//! A recording as a picture that moves: some screens, one after another; the last one where nothing is to move.

use std::fmt::Write;

use super::{Recording, is_progress};

/// An SVG of a recording.
pub(crate) fn svg(recording: &Recording) -> String {
    let screens = chosen(recording);
    let rows = screens.iter().map(|(_, lines)| lines.len()).max().unwrap_or(0) + 2;
    let (width, height) = (usize::from(recording.columns) * 8 + 24, rows * 18 + 20);
    let seconds = screens.last().map_or(1.0, |(at, _)| at + LAST);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n\
         <title>{}</title>\n<style>\
         text{{font:13.3px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#d8dee9;white-space:pre}}.b{{fill:#8fbc6a}}\
         .s{{visibility:hidden}}.s:last-of-type{{visibility:visible}}\
         @media(prefers-reduced-motion:no-preference){{.s,.s:last-of-type{{visibility:hidden;animation:{seconds:.1}s step-end infinite}}}}",
        escaped(&recording.line)
    );
    for (number, (at, _)) in screens.iter().enumerate() {
        let until = screens.get(number + 1).map_or(100.0, |(next, _)| next / seconds * 100.0);
        let from = at / seconds * 100.0;
        let begin = if number == 0 {
            String::new()
        } else {
            format!("0%{{visibility:hidden}}{from:.1}%{{visibility:visible}}")
        };
        let begin = if number == 0 { "0%{visibility:visible}".to_owned() } else { begin };
        let end = if until < 100.0 { format!("{until:.1}%{{visibility:hidden}}") } else { String::new() };
        let _ = write!(svg, "@keyframes k{number}{{{begin}{end}}}#k{number}.s{{animation-name:k{number}}}");
    }
    svg += "</style>\n<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#20242c\"/>\n";
    // What was typed, broken where the terminal breaks it.
    let prompt: Vec<char> = format!("$ {}", recording.line).chars().collect();
    let prompt: Vec<String> =
        prompt.chunks(recording.columns.into()).map(|part| part.iter().collect::<String>()).collect();
    for (row, line) in prompt.iter().enumerate() {
        text(&mut svg, row, line);
    }
    for (number, (_, lines)) in screens.iter().enumerate() {
        let _ = writeln!(svg, "<g class=\"s\" id=\"k{number}\">");
        for (row, line) in lines.iter().enumerate() {
            text(&mut svg, row + prompt.len(), line);
        }
        svg += "</g>\n";
    }
    svg + "</svg>\n"
}

/// The screens that are shown, two a second, and the last one; without empty lines at the end.
fn chosen(recording: &Recording) -> Vec<(f64, Vec<String>)> {
    let mut chosen: Vec<(f64, Vec<String>)> = vec![(0.0, Vec::new())];
    let last = recording.screens.len() - 1;
    for (number, (at, lines)) in recording.screens.iter().enumerate() {
        let full = lines.iter().any(|line| is_progress(line)) && at - chosen.last().unwrap().0 >= BETWEEN;
        if full || number == last {
            let end = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |row| row + 1);
            chosen.push((*at, lines[..end].to_vec()));
        }
    }
    chosen
}

fn text(svg: &mut String, row: usize, line: &str) {
    if line.is_empty() {
        return;
    }
    let class = if is_progress(line) { " class=\"b\"" } else { "" };
    let (y, length) = (24 + row * 18, line.chars().count() * 8);
    // Whatever the font, a character is as wide as another.
    let _ = writeln!(svg, "<text{class} x=\"12\" y=\"{y}\" textLength=\"{length}\">{}</text>", escaped(line));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Seconds between two screens.
const BETWEEN: f64 = 0.5;
/// Seconds for which the last one stays.
const LAST: f64 = 4.0;
