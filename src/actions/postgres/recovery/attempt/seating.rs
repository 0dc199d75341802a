//! What moves in the swap, and that none of it is somebody else's.

use std::path::PathBuf;

use serde_json::json;

use super::super::outside_writes::{self, Passage};
use super::{Reading, Recovering};
use crate::action::ActionError;
use crate::actions::postgres::cluster::container;
use crate::actions::postgres::cluster::linked::followed;
use crate::actions::postgres::cluster::pg_control::cannot;
use crate::actions::postgres::restore::marker::{self, Marker};
use crate::actions::postgres::restore::neighbours::{self, Neighbours};
use crate::actions::postgres::restore::old::Old;
use crate::actions::postgres::restore::swap::{Seat, Swap};
use crate::actions::postgres::stores::target::Goal;
use crate::event::Progress;

impl Recovering<'_> {
    /// Everything that moves, none of it somebody else's; and how far the server may read. Where no old data directory
    /// tells which tablespaces there were, the WAL does: replaying the creation of one empties its folder.
    pub(crate) async fn seats(
        &self,
        marker: &Marker,
        old: Option<&Old>,
        passage: Passage<'_>,
    ) -> Result<(Swap, Reading), ActionError> {
        let (run, files) = (&self.context.cx.about.run, passage.wal_source.aside.files);
        let staged = self.context.cluster.staged(files, run);
        let mut links = match old {
            Some(old) => marker::links(files, &old.dir, run).map_err(|error| cannot(&error))?,
            None => Vec::new(),
        };
        let told = match old {
            Some(old) => old.lists_tablespaces(files).map_err(|error| cannot(&error))?,
            None => self.context.cluster.is_scratch(),
        };
        let neighbours = match self.context.cluster.is_scratch() {
            true => Neighbours::default(),
            false => Neighbours::of(self.context.cluster, &self.context.cx.about, files),
        };
        let (linked, mut reading) = (links.clone(), Reading::Ahead);
        if !told || neighbours.have_tablespaces() {
            let made;
            (made, reading) = self.made(passage).await?;
            let own = |link: &PathBuf| links.iter().any(|(known, _)| known == link);
            let made = made.into_iter().filter(|(link, _)| !own(link));
            let made: Vec<_> = made.map(|(link, place)| (link, followed(&place, files))).collect();
            links.extend(made);
        }
        if let Some((link, place)) = links.first().filter(|_| self.context.cluster.is_contained()) {
            return Err(self.untouched(files, container::outside(link, place)));
        }
        let live = self.context.cluster.pgdata.clone();
        let placement = self.context.cluster.placement(files);
        let data = Seat { kept: placement.kept(&live, run), staged: Some(staged), placement, live };
        let (linked_seats, owner) = (marker.seats(&links, run, files), self.context.owner.clone());
        let swap = Swap { data, linked: linked_seats, made: Vec::new(), owner }.without_old_ties(files);
        let seats = std::iter::once(&swap.data).chain(swap.linked.iter().map(|linked| &linked.seat));
        neighbours.refuse(seats.map(|seat| seat.live.as_path()), files)?;
        if old.is_some() && told {
            neighbours::refuse_strangers(&swap, &linked, files)?;
        }
        Ok((swap, reading))
    }

    /// The tablespaces that replay will create. What breaks off behind a target is no reason to refuse it.
    async fn made(&self, passage: Passage<'_>) -> Result<(outside_writes::Made, Reading), ActionError> {
        let reporter = &self.context.cx.reporter;
        reporter.progress(Progress::Doing { text: "looking for tablespaces in the WAL".to_owned() });
        let looked = outside_writes::tablespaces(passage).await?;
        if passage.plan.goal == Goal::Newest {
            return looked.whole().map(|made| (made, Reading::Ahead));
        }
        let (made, broken) = looked.up_to_a_break(passage.wal_source, &passage.plan.goal)?;
        if let Some(error) = &broken {
            let message =
                format!("{error}: it is not replayed, nor what follows, and a target that lies there is not reached");
            reporter.note(message, json!({ "causes": error.info().causes }));
        }
        Ok((made, if broken.is_some() { Reading::AsReplayed } else { Reading::Ahead }))
    }
}
