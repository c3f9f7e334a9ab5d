//! What people say is in the photos.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use csv::StringRecord;
use guiji_domain::BBox;

/// What is asked of the labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Texts, colours and rows, as well as boxes.
    Reading,
    /// Boxes only.
    Detection,
}

/// A photo's first plate.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Label {
    /// Line of the file, from 1.
    pub(super) line: u64,
    /// File name of the photo.
    pub(super) photo: String,
    /// The plate's text, without dots and blanks; `?` where nobody can tell. Need not be a possible plate.
    pub(super) text: String,
    /// Word of the ground colour; empty when not asked for.
    pub(super) colour: String,
    /// `1` or `2`; empty when not asked for.
    pub(super) rows: String,
    /// Where, pixels.
    pub(super) bbox: BBox,
}

impl Label {
    /// Whether a character cannot be read for certain: then the photo is skipped.
    pub(super) fn unclear(&self) -> bool {
        self.text.contains('?')
    }
}

/// Reads `labels.csv`: columns by name, in any order, others ignored.
///
/// # Errors
/// When it cannot be read or understood; the message names file, line and mend.
pub(super) fn load_labels(folder: &Path, task: Task) -> Result<Vec<Label>> {
    let path = folder.join("labels.csv");
    let file = File::open(&path).with_context(|| {
        format!("open {}: give a folder with photos and a labels.csv", path.display())
    })?;
    let labels = parse_labels(file, task).with_context(|| path.display().to_string())?;
    if labels.is_empty() {
        bail!("{}: no photo is listed: add a line for each", path.display());
    }
    Ok(labels)
}

/// Reads `boxes_all.csv`, every labelled plate of each photo, where the folder has one.
///
/// # Errors
/// When it is there, but cannot be read or understood.
pub(super) fn load_boxes(folder: &Path) -> Result<Option<HashMap<String, Vec<BBox>>>> {
    let path = folder.join("boxes_all.csv");
    if !path.is_file() {
        return Ok(None);
    }
    let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    parse_boxes(file).map(Some).with_context(|| path.display().to_string())
}

fn parse_labels(input: impl Read, task: Task) -> Result<Vec<Label>> {
    let mut table = Table::open(input)?;
    let mut labels: Vec<Label> = Vec::new();
    while let Some(row) = table.next_row()? {
        let appearance = |name| match task {
            Task::Reading => row.text(name),
            Task::Detection => Ok(String::new()),
        };
        let label = Label {
            line: row.line,
            photo: row.text("id")?,
            text: first_plate(&row.text("plate_text")?),
            colour: appearance("plate_colour").map_err(for_reading)?,
            rows: appearance("rows").map_err(for_reading)?,
            bbox: row.bbox()?,
        };
        if label.text.is_empty() {
            bail!("line {}: plate_text is empty: write ? for what cannot be read", label.line);
        }
        if task == Task::Reading && !matches!(label.rows.as_str(), "1" | "2") {
            bail!("line {}: rows is {:?}: write 1 or 2", label.line, label.rows);
        }
        if let Some(earlier) = labels.iter().find(|earlier| earlier.photo == label.photo) {
            bail!(
                "line {}: {} is listed in line {} already: write one line a photo, plates joined by ;",
                label.line,
                label.photo,
                earlier.line
            );
        }
        labels.push(label);
    }
    Ok(labels)
}

fn for_reading(error: anyhow::Error) -> anyhow::Error {
    anyhow!("{error}, or measure detection alone with --only-detection")
}

fn parse_boxes(input: impl Read) -> Result<HashMap<String, Vec<BBox>>> {
    let mut table = Table::open(input)?;
    let mut boxes: HashMap<String, Vec<BBox>> = HashMap::new();
    while let Some(row) = table.next_row()? {
        boxes.entry(row.text("id")?).or_default().push(row.bbox()?);
    }
    Ok(boxes)
}

/// The first of several texts, in the form that reads have: upper case, no dots, no blanks.
fn first_plate(texts: &str) -> String {
    let first = texts.split(';').next().unwrap_or_default();
    let written = first.chars().filter(|c| !c.is_whitespace() && !"·•.-‧・●".contains(*c));
    written.flat_map(char::to_uppercase).collect()
}

/// A CSV file whose columns are known by name.
struct Table<R> {
    reader: csv::Reader<R>,
    header: StringRecord,
    record: StringRecord,
}

struct Row<'t> {
    header: &'t StringRecord,
    record: &'t StringRecord,
    line: u64,
}

impl<R: Read> Table<R> {
    fn open(input: R) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
        let mut header = reader.headers().map_err(mendable)?.clone();
        // Spreadsheets begin a file with a byte order mark.
        if let Some(first) = header.get(0).and_then(|name| name.strip_prefix('\u{feff}')) {
            let names: Vec<String> = std::iter::once(first.to_owned())
                .chain(header.iter().skip(1).map(str::to_owned))
                .collect();
            header = StringRecord::from(names);
        }
        Ok(Self { reader, header, record: StringRecord::new() })
    }

    fn next_row(&mut self) -> Result<Option<Row<'_>>> {
        if !self.reader.read_record(&mut self.record).map_err(mendable)? {
            return Ok(None);
        }
        let line = self.record.position().map_or(0, csv::Position::line);
        Ok(Some(Row { header: &self.header, record: &self.record, line }))
    }
}

/// The parser's message names the line; this adds what to do.
fn mendable(error: csv::Error) -> anyhow::Error {
    anyhow!("{error}: give UTF-8 text, commas, and as many values a line as the header has names")
}

impl Row<'_> {
    fn text(&self, name: &str) -> Result<String> {
        let column = self.header.iter().position(|header| header == name);
        let Some(column) = column else { bail!("line 1: there is no column {name:?}: add it") };
        Ok(self.record.get(column).unwrap_or_default().to_owned())
    }

    fn bbox(&self) -> Result<BBox> {
        let number = |name| {
            let text = self.text(name)?;
            text.parse::<f32>().map_err(|_| {
                anyhow!("line {}: {name} is {text:?}: write a number of pixels", self.line)
            })
        };
        let (x1, y1, x2, y2) = (number("x1")?, number("y1")?, number("x2")?, number("y2")?);
        let found = BBox::new(x1, y1, x2, y2).filter(|b| x1 < x2 && y1 < y2 && b.area() > 0.0);
        found.with_context(|| {
            format!(
                "line {}: the box {x1},{y1},{x2},{y2} is empty: x1,y1 is the top left corner, x2,y2 the bottom right",
                self.line
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "id,source,plate_text,plate_colour,rows,x1,y1,x2,y2,note\n";

    fn parse(rows: &str) -> Result<Vec<Label>> {
        parse_labels(format!("{HEADER}{rows}").as_bytes(), Task::Reading)
    }

    #[test]
    fn the_first_plate_counts() {
        let labels = parse(
            "a.jpg,s,冀f·A3215;湘AT1203,blue,1,34,667,164,711,\nb.jpg,s,皖A2F56?,blue,1,1,2,3,4,\"far, dark\"\n",
        )
        .unwrap();
        assert_eq!((labels[0].text.as_str(), labels[0].line), ("冀FA3215", 2));
        assert_eq!(labels[0].bbox, BBox::new(34.0, 667.0, 164.0, 711.0).unwrap());
        assert!(!labels[0].unclear() && labels[1].unclear());
    }

    #[test]
    fn an_unclear_second_plate_does_not_matter() {
        let labels = parse("a.jpg,s,津JZ3999;?HL9281,blue,1,1,2,3,4,\n").unwrap();
        assert!(!labels[0].unclear());
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_name() {
        let text = format!("\u{feff}{HEADER}a.jpg,s,冀FA3215,blue,1,1,2,3,4,\n");
        assert_eq!(parse_labels(text.as_bytes(), Task::Reading).unwrap()[0].photo, "a.jpg");
    }

    #[test]
    fn detection_needs_neither_colour_nor_rows() {
        let text = "id,plate_text,x1,y1,x2,y2\neu1.jpg,M5XSX,396,340,599,386\n";
        assert_eq!(parse_labels(text.as_bytes(), Task::Detection).unwrap()[0].text, "M5XSX");
        let error = parse_labels(text.as_bytes(), Task::Reading).unwrap_err().to_string();
        for hint in ["line 1", "plate_colour", "--only-detection"] {
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn mistakes_name_the_line_and_the_mend() {
        for (rows, hints) in [
            ("a.jpg,s,冀FA3215,blue,1,34,x,164,711,\n", ["line 2", "y1", "pixels"].as_slice()),
            ("a.jpg,s,冀FA3215,blue,1,34,1,34,711,\n", &["line 2", "top left"]),
            ("a.jpg,s,冀FA3215,blue,1,34,1,NaN,711,\n", &["line 2", "top left"]),
            ("a.jpg,s,冀FA3215,blue,3,1,2,3,4,\n", &["line 2", "rows", "1 or 2"]),
            ("a.jpg,s,,blue,1,1,2,3,4,\n", &["line 2", "plate_text", "?"]),
            ("a.jpg,s,冀FA3215,blue\n", &["line: 2", "as many values"]),
            (
                "a.jpg,s,冀FA3215,blue,1,1,2,3,4,\na.jpg,s,冀FA3215,blue,1,1,2,3,4,\n",
                &["line 3", "line 2", "one line a photo"],
            ),
        ] {
            let error = format!("{:#}", parse(rows).unwrap_err());
            for hint in hints {
                assert!(error.contains(hint), "{rows}→ {error}\nlacks {hint}");
            }
        }
    }

    #[test]
    fn a_folder_without_labels_says_what_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let error = format!("{:#}", load_labels(folder.path(), Task::Reading).unwrap_err());
        assert!(error.contains("labels.csv") && error.contains("give a folder"), "{error}");
        assert_eq!(load_boxes(folder.path()).unwrap(), None);
        std::fs::write(folder.path().join("labels.csv"), HEADER).unwrap();
        let error = load_labels(folder.path(), Task::Reading).unwrap_err().to_string();
        assert!(error.contains("no photo"), "{error}");
    }

    #[test]
    fn boxes_are_gathered_by_photo() {
        let text = "id,plate_index,x1,y1,x2,y2\na,0,1,2,3,4\na,1,5,6,7,8\nb,0,1,2,3,4\n";
        let boxes = parse_boxes(text.as_bytes()).unwrap();
        assert_eq!((boxes["a"].len(), boxes["b"].len()), (2, 1));
    }
}
