//! What was built, for people.

use std::fmt::Write as _;

use crate::ops::make::explain::Explained;
use crate::ops::make::toolkit::Toolkit;
use crate::ops::make::{Built, Made, MakeReport, Skipped};
use crate::plural;
use crate::progress::{Unit, amount};

impl MakeReport {
    /// What was built, explained or skipped.
    pub fn to_text(&self) -> String {
        match self {
            MakeReport::Explained(explained) => explained.iter().map(Explained::to_text).collect(),
            MakeReport::Toolkits(toolkits) => toolkits.iter().map(Toolkit::to_text).collect(),
            MakeReport::Images(images) => images.iter().map(Made::to_text).collect(),
        }
    }
}

impl Made {
    fn to_text(&self) -> String {
        match self {
            Made::Built(image) => image.to_text(),
            Made::Skipped(Skipped { output, fingerprint, .. }) => {
                let outputs = output.iter().map(|output| format!("{output}\n")).collect::<String>();
                format!("{outputs}  nothing built: it is there, made of the same inputs ({fingerprint})\n")
            }
        }
    }
}

impl Built {
    fn to_text(&self) -> String {
        let mut text: String = self.output.iter().map(|output| format!("{output}\n")).collect();
        let _ = writeln!(text, "  digest   {}", self.report.digest);
        if let Some(sbom) = &self.sbom {
            let _ = writeln!(text, "  sbom     {sbom}");
        }
        if self.report.created != jiff::Timestamp::UNIX_EPOCH {
            let _ = writeln!(text, "  created  {}", self.report.created);
        }
        for image in &self.report.images {
            let bytes = image.layers.iter().map(|layer| layer.size).sum();
            let (layers, size) = (plural::count(image.layers.len(), "layer"), amount(bytes, Unit::Bytes));
            let _ = writeln!(text, "  {:<8} {}, {layers}, {size}", image.platform.to_string(), image.manifest);
        }
        text.extend(self.left_out.iter().map(|left_out| format!("  {left_out}\n")));
        text
    }
}
