//! `guiji query search --likely`: by what the plate may have been, not only by what was read.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use guiji_api::client::Client;
use guiji_api::convert::Word as _;
use guiji_api::pb;
use guiji_domain::{VehicleClass, VehicleColour};

use super::{SIGHTING_HEAD, found, json_line, line, sighting_row};

/// The part of `guiji query search` that is about probabilities.
#[derive(Debug, Args)]
pub(super) struct Likely {
    /// Rank by the probability that it is this plate: misread ones are found too.
    #[arg(long)]
    likely: bool,
    /// Only at this site; may be given again.
    #[arg(long, requires = "likely")]
    site: Vec<String>,
    /// The vehicle is believed to be of this class, which leaves no other out; may be given again.
    #[arg(long, value_name = "CLASS", requires = "likely")]
    maybe_class: Vec<VehicleClass>,
    /// Its body is believed to be of this colour, likewise.
    #[arg(long, value_name = "COLOUR", requires = "likely")]
    maybe_colour: Vec<VehicleColour>,
    /// Only what was read otherwise.
    #[arg(long, requires = "likely")]
    misreads_only: bool,
}

impl Likely {
    pub(super) fn is_asked(&self) -> bool {
        self.likely
    }

    pub(super) async fn run(
        &self,
        client: &Client,
        json: bool,
        filter: pb::SightingFilter,
        limit: usize,
    ) -> Result<ExitCode> {
        let mut request = pb::SearchLikelyRequest {
            filter: Some(filter),
            sites: self.site.clone(),
            likely_classes: self.maybe_class.iter().map(|class| class.to_pb()).collect(),
            likely_colours: self.maybe_colour.iter().map(|colour| colour.to_pb()).collect(),
            misreads_only: self.misreads_only,
            ..Default::default()
        };
        let (mut count, mut wrong) = (0, 0.0);
        if !json {
            line(format_args!("{:>7}  {SIGHTING_HEAD}", "is it"))?;
        }
        let extent = loop {
            request.page_size = i32::try_from((limit - count).min(500)).unwrap_or(500);
            let page = client.search_likely(request.clone()).await?;
            count += page.results.len();
            wrong += page.expected_false_count;
            for result in &page.results {
                if json {
                    json_line(result)?;
                } else {
                    line(result_text(result))?;
                }
            }
            request.page_token = page.next_page_token.clone();
            if request.page_token.is_empty() || count >= limit {
                break page.extent();
            }
        };
        if !json {
            line(format_args!(
                "{count} found, of which {wrong:.1} are to be expected to be another"
            ))?;
            match extent {
                pb::SearchExtent::Likeliest => {
                    line("there are more than were looked at: ask about less time")?
                }
                pb::SearchExtent::Texts => line(
                    "too many sightings to look for misreads: ask about less time, or fewer cameras",
                )?,
                pb::SearchExtent::All | pb::SearchExtent::Unspecified => {}
            }
        }
        Ok(found(count > 0))
    }
}

fn result_text(result: &pb::LikelySighting) -> String {
    let row = result.sighting.as_ref().map(sighting_row).unwrap_or_default();
    let mark = if result.misread { "  misread" } else { "" };
    let characters: String = result.misread_characters.iter().map(character_text).collect();
    format!("{:>5.1} %  {row}{mark}{characters}", result.probability * 100.0)
}

fn character_text(one: &pb::MisreadCharacter) -> String {
    let shown = |text: &str| if text.is_empty() { "nothing".to_owned() } else { text.to_owned() };
    let (read, sought) = (shown(&one.read), shown(&one.sought));
    format!("  {sought} as {read} at {} ({:.0} %)", one.index + 1, one.probability * 100.0)
}
