use super::Role::{self, Admin, Analyst, Integrator, Patrol, Supervisor};
use super::{Caller, Scope};
use crate::error::Problem;

/// A call of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    ListCameras,
    GetCamera,
    CreateCamera,
    DeleteCamera,
    ImportSightings,
    ImportCameras,
    ImportCoverage,
    ImportRoadGraph,
    SearchSightings,
    StreamSightings,
    WatchSightings,
    GetSighting,
    GetEvidence,
    GetTrajectory,
    SearchLikely,
    CorrectSighting,
    ListWatchlistEntries,
    GetWatchlistEntry,
    CreateWatchlistEntry,
    DeleteWatchlistEntry,
    ApproveWatchlistEntry,
    ImportWatchlistEntries,
    DryRunWatchlistEntry,
    ListAlerts,
    StreamAlerts,
    ExportEvidence,
    ListOddPatterns,
    GrantRelease,
    ListReleases,
    RevokeRelease,
    FindConvoys,
    FindCollisions,
    ListFirstEntries,
    ListNightActive,
    ListFrequent,
    ListStops,
    GetVehicleCard,
    MeasureSectionSpeed,
    JudgeClone,
    ListClones,
    WatchClones,
    ForecastVehicle,
    ListCameraGrades,
    ApproveTactic,
}

/// Whether a call changes what the server keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Reads,
    Changes,
}

/// A line of the table.
struct Rule {
    name: &'static str,
    effect: Effect,
    roles: &'static [Role],
}

impl Method {
    /// The one table: each call's name, what it does, and who may make it.
    #[rustfmt::skip]
    const fn rule(self) -> Rule {
        use Effect::{Changes, Reads};
        const fn rule(name: &'static str, effect: Effect, roles: &'static [Role]) -> Rule {
            Rule { name, effect, roles }
        }
        match self {
            Self::ListCameras => rule("CameraService/ListCameras", Reads, &[Analyst, Patrol, Integrator, Supervisor, Admin]),
            Self::GetCamera => rule("CameraService/GetCamera", Reads, &[Analyst, Patrol, Integrator, Supervisor, Admin]),
            Self::CreateCamera => rule("CameraService/CreateCamera", Changes, &[Admin]),
            Self::DeleteCamera => rule("CameraService/DeleteCamera", Changes, &[Admin]),
            Self::ImportSightings => rule("ImportService/ImportSightings", Changes, &[Integrator]),
            Self::ImportCameras => rule("ImportService/ImportCameras", Changes, &[Integrator, Admin]),
            Self::ImportCoverage => rule("ImportService/ImportCoverage", Changes, &[Integrator, Admin]),
            Self::ImportRoadGraph => rule("ImportService/ImportRoadGraph", Changes, &[Integrator, Admin]),
            Self::SearchSightings => rule("SightingService/SearchSightings", Reads, &[Analyst, Supervisor]),
            Self::StreamSightings => rule("SightingService/StreamSightings", Reads, &[Analyst, Supervisor]),
            Self::WatchSightings => rule("SightingService/WatchSightings", Reads, &[Analyst, Supervisor]),
            Self::GetSighting => rule("SightingService/GetSighting", Reads, &[Analyst, Patrol, Supervisor]),
            Self::GetEvidence => rule("SightingService/GetEvidence", Reads, &[Analyst, Patrol, Supervisor]),
            Self::GetTrajectory => rule("TrajectoryService/GetTrajectory", Reads, &[Analyst, Supervisor]),
            Self::SearchLikely => rule("LikelyService/SearchLikely", Reads, &[Analyst, Supervisor]),
            Self::CorrectSighting => rule("CorrectionService/CorrectSighting", Changes, &[Analyst, Supervisor]),
            Self::ListWatchlistEntries => rule("WatchlistService/ListWatchlistEntries", Reads, &[Analyst, Supervisor]),
            Self::GetWatchlistEntry => rule("WatchlistService/GetWatchlistEntry", Reads, &[Analyst, Patrol, Supervisor]),
            Self::CreateWatchlistEntry => rule("WatchlistService/CreateWatchlistEntry", Changes, &[Analyst, Supervisor]),
            Self::DeleteWatchlistEntry => rule("WatchlistService/DeleteWatchlistEntry", Changes, &[Analyst, Supervisor]),
            Self::ApproveWatchlistEntry => rule("WatchlistService/ApproveWatchlistEntry", Changes, &[Supervisor]),
            Self::ImportWatchlistEntries => rule("WatchlistService/ImportWatchlistEntries", Changes, &[Analyst, Supervisor]),
            Self::DryRunWatchlistEntry => rule("WatchlistService/DryRunWatchlistEntry", Reads, &[Analyst, Supervisor]),
            Self::ListAlerts => rule("AlertService/ListAlerts", Reads, &[Analyst, Patrol, Integrator, Supervisor]),
            Self::StreamAlerts => rule("AlertService/StreamAlerts", Reads, &[Analyst, Patrol, Integrator, Supervisor]),
            Self::ExportEvidence => rule("EvidenceService/ExportEvidence", Reads, &[Analyst, Supervisor]),
            Self::ListOddPatterns => rule("AuditService/ListOddPatterns", Reads, &[Supervisor]),
            Self::GrantRelease => rule("ReleaseService/GrantRelease", Changes, &[Supervisor]),
            Self::ListReleases => rule("ReleaseService/ListReleases", Reads, &[Supervisor]),
            Self::RevokeRelease => rule("ReleaseService/RevokeRelease", Changes, &[Supervisor]),
            Self::FindConvoys => rule("TacticsService/FindConvoys", Reads, &[Analyst, Supervisor]),
            Self::FindCollisions => rule("TacticsService/FindCollisions", Reads, &[Analyst, Supervisor]),
            Self::ListFirstEntries => rule("TacticsService/ListFirstEntries", Reads, &[Analyst, Supervisor]),
            Self::ListNightActive => rule("TacticsService/ListNightActive", Reads, &[Analyst, Supervisor]),
            Self::ListFrequent => rule("TacticsService/ListFrequent", Reads, &[Analyst, Supervisor]),
            Self::ListStops => rule("TacticsService/ListStops", Reads, &[Analyst, Supervisor]),
            Self::GetVehicleCard => rule("TacticsService/GetVehicleCard", Reads, &[Analyst, Supervisor]),
            Self::MeasureSectionSpeed => rule("TacticsService/MeasureSectionSpeed", Reads, &[Analyst, Supervisor]),
            Self::JudgeClone => rule("TacticsService/JudgeClone", Reads, &[Analyst, Supervisor]),
            Self::ListClones => rule("TacticsService/ListClones", Reads, &[Analyst, Supervisor]),
            Self::WatchClones => rule("TacticsService/WatchClones", Reads, &[Analyst, Supervisor]),
            Self::ForecastVehicle => rule("TacticsService/ForecastVehicle", Reads, &[Analyst, Patrol, Supervisor]),
            Self::ListCameraGrades => rule("TacticsService/ListCameraGrades", Reads, &[Analyst, Supervisor, Admin]),
            Self::ApproveTactic => rule("TacticsService/ApproveTactic", Changes, &[Supervisor]),
        }
    }

    /// `Service/Method`, as the protos have it.
    pub(crate) const fn name(self) -> &'static str {
        self.rule().name
    }

    /// Whether this caller may make the call; what they see of the answer is another question.
    pub(crate) fn permit(self, caller: &Caller) -> Result<(), Problem> {
        let Caller::Known(identity) = caller else { return Ok(()) };
        let Rule { name, effect, roles } = self.rule();
        if !roles.contains(&identity.role) {
            let may = roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Problem::Forbidden {
                reason: "ROLE_FORBIDS",
                message: format!("{name} is not for the role {}: it is for {may}", identity.role),
            });
        }
        // A limit on what somebody sees would mean little if they could change what lies beyond it.
        if effect == Effect::Changes && identity.scope != Scope::Everywhere {
            return Err(Problem::Forbidden {
                reason: "SCOPE_FORBIDS",
                message: format!("{name} changes data: a token with a scope may only read"),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::auth::Identity;
    use crate::pb;
    use guiji_domain::Timestamp;
    use prost::Message;

    /// Who may make which call, once more, by another hand: A analyst, P patrol, I integrator, S supervisor,
    /// M admin; `!` marks a change.
    const EXPECTED: &str = "
        ListCameras            A P I S M
        GetCamera              A P I S M
        CreateCamera         ! - - - - M
        DeleteCamera         ! - - - - M
        ImportSightings      ! - - I - -
        ImportCameras        ! - - I - M
        ImportCoverage       ! - - I - M
        ImportRoadGraph      ! - - I - M
        SearchSightings        A - - S -
        StreamSightings        A - - S -
        WatchSightings         A - - S -
        GetSighting            A P - S -
        GetEvidence            A P - S -
        GetTrajectory          A - - S -
        SearchLikely           A - - S -
        CorrectSighting      ! A - - S -
        ListWatchlistEntries   A - - S -
        GetWatchlistEntry      A P - S -
        CreateWatchlistEntry ! A - - S -
        DeleteWatchlistEntry ! A - - S -
        ApproveWatchlistEntry ! - - - S -
        ImportWatchlistEntries ! A - - S -
        DryRunWatchlistEntry   A - - S -
        ListAlerts             A P I S -
        StreamAlerts           A P I S -
        ExportEvidence         A - - S -
        ListOddPatterns        - - - S -
        GrantRelease         ! - - - S -
        ListReleases           - - - S -
        RevokeRelease        ! - - - S -
        FindConvoys            A - - S -
        FindCollisions         A - - S -
        ListFirstEntries       A - - S -
        ListNightActive        A - - S -
        ListFrequent           A - - S -
        ListStops              A - - S -
        GetVehicleCard         A - - S -
        MeasureSectionSpeed    A - - S -
        JudgeClone             A - - S -
        ListClones             A - - S -
        WatchClones            A - - S -
        ForecastVehicle        A P - S -
        ListCameraGrades       A - - S M
        ApproveTactic        ! - - - S -";

    const ALL: &[Method] = {
        use Method::*;
        &[
            ListCameras,
            GetCamera,
            CreateCamera,
            DeleteCamera,
            ImportSightings,
            ImportCameras,
            ImportCoverage,
            ImportRoadGraph,
            SearchSightings,
            StreamSightings,
            WatchSightings,
            GetSighting,
            GetEvidence,
            GetTrajectory,
            SearchLikely,
            CorrectSighting,
            ListWatchlistEntries,
            GetWatchlistEntry,
            CreateWatchlistEntry,
            DeleteWatchlistEntry,
            ApproveWatchlistEntry,
            ImportWatchlistEntries,
            DryRunWatchlistEntry,
            ListAlerts,
            StreamAlerts,
            ExportEvidence,
            ListOddPatterns,
            GrantRelease,
            ListReleases,
            RevokeRelease,
            FindConvoys,
            FindCollisions,
            ListFirstEntries,
            ListNightActive,
            ListFrequent,
            ListStops,
            GetVehicleCard,
            MeasureSectionSpeed,
            JudgeClone,
            ListClones,
            WatchClones,
            ForecastVehicle,
            ListCameraGrades,
            ApproveTactic,
        ]
    };

    fn caller(role: Role, scope: Scope) -> Caller {
        Caller::Known(Arc::new(Identity {
            subject: "wang".into(),
            role,
            scope,
            old_data_released_by: None,
            people_shown_by: None,
            token_id: None,
            expires: Timestamp::from_secs(1),
        }))
    }

    #[test]
    fn every_call_and_role_is_as_the_table_says() {
        let rows: Vec<_> = EXPECTED.lines().filter(|line| !line.trim().is_empty()).collect();
        assert_eq!(rows.len(), ALL.len());
        let mut tried = 0;
        for row in rows {
            let changes = row.contains('!');
            let words: Vec<_> = row.split_whitespace().filter(|word| *word != "!").collect();
            let method = ALL
                .iter()
                .copied()
                .find(|method| method.name().ends_with(&format!("/{}", words[0])))
                .unwrap_or_else(|| panic!("no call {}", words[0]));
            assert_eq!(method.rule().effect == Effect::Changes, changes, "{method:?}");
            for (role, letter) in
                [Analyst, Patrol, Integrator, Supervisor, Admin].into_iter().zip("APISM".chars())
            {
                let may = words[1..].contains(&letter.to_string().as_str());
                let told = method.permit(&caller(role, Scope::Everywhere));
                assert_eq!(told.is_ok(), may, "{method:?} by {role}");
                // Scoped: the same calls, without the changes.
                let scope = Scope::Cameras(Arc::default());
                let told = method.permit(&caller(role, scope));
                assert_eq!(told.is_ok(), may && !changes, "{method:?} by {role} with a scope");
                tried += 1;
            }
            assert!(method.permit(&Caller::Unnamed).is_ok());
        }
        assert_eq!(tried, ALL.len() * 5);
    }

    #[test]
    fn the_table_has_every_call_of_the_contract() {
        let set = prost_types::FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).unwrap();
        let own = set.file.iter().filter(|file| file.package() == "guiji.v1");
        let contract: BTreeSet<String> = own
            .flat_map(|file| &file.service)
            .flat_map(|s| s.method.iter().map(|m| format!("{}/{}", s.name(), m.name())))
            .collect();
        let table: BTreeSet<String> = ALL.iter().map(|method| method.name().to_owned()).collect();
        assert_eq!(table, contract);
    }
}
