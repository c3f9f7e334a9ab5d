use super::Role::{self, Admin, Analyst, Integrator, Patrol, Supervisor};
use super::{Caller, Scope};
use crate::error::Problem;

/// Whether a call changes what the server keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Reads,
    Changes,
    /// Only about what the caller may see: a token with a scope may do it.
    Answers,
    /// Reads what is about everybody and everywhere: no scope narrows it.
    Oversees,
}

/// A line of the table.
struct Rule {
    name: &'static str,
    effect: Effect,
    roles: &'static [Role],
}

/// Makes the calls of the contract out of the one table: a line has the call's name, its service, what it does, and
/// who may make it.
macro_rules! methods {
    ($($method:ident: $service:ident $effect:ident [$($role:ident)+];)+) => {
        /// A call of the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Method {
            $($method),+
        }

        impl Method {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$method),+];

            const fn rule(self) -> Rule {
                match self {
                    $(Self::$method => Rule {
                        name: concat!(stringify!($service), "/", stringify!($method)),
                        effect: Effect::$effect,
                        roles: &[$($role),+],
                    },)+
                }
            }
        }
    };
}

methods! {
    ListCameras: CameraService Reads [Analyst Patrol Integrator Supervisor Admin];
    GetCamera: CameraService Reads [Analyst Patrol Integrator Supervisor Admin];
    CreateCamera: CameraService Changes [Admin];
    UpdateCamera: CameraService Changes [Admin];
    OpenCamera: CameraService Answers [Analyst Supervisor Admin];
    DeleteCamera: CameraService Changes [Admin];
    ListCoverage: CameraService Reads [Analyst Supervisor Admin];
    ImportSightings: ImportService Changes [Integrator];
    ImportCameras: ImportService Changes [Integrator Admin];
    ImportCoverage: ImportService Changes [Integrator Admin];
    ImportRoadGraph: ImportService Changes [Integrator Admin];
    SearchSightings: SightingService Reads [Analyst Supervisor];
    StreamSightings: SightingService Reads [Analyst Supervisor];
    WatchSightings: SightingService Reads [Analyst Supervisor];
    GetSighting: SightingService Reads [Analyst Patrol Supervisor];
    GetEvidence: SightingService Reads [Analyst Patrol Supervisor];
    GetTrajectory: TrajectoryService Reads [Analyst Supervisor];
    SearchLikely: LikelyService Reads [Analyst Supervisor];
    CorrectSighting: CorrectionService Changes [Analyst Supervisor];
    ListWatchlistEntries: WatchlistService Reads [Analyst Supervisor];
    GetWatchlistEntry: WatchlistService Reads [Analyst Patrol Supervisor];
    CreateWatchlistEntry: WatchlistService Changes [Analyst Supervisor];
    DeleteWatchlistEntry: WatchlistService Changes [Analyst Supervisor];
    ApproveWatchlistEntry: WatchlistService Changes [Supervisor];
    ImportWatchlistEntries: WatchlistService Changes [Analyst Supervisor];
    DryRunWatchlistEntry: WatchlistService Reads [Analyst Supervisor];
    ListAlerts: AlertService Reads [Analyst Patrol Integrator Supervisor];
    StreamAlerts: AlertService Reads [Analyst Patrol Integrator Supervisor];
    AcknowledgeAlert: AlertService Answers [Analyst Patrol Supervisor];
    ListPatrolUnits: PatrolService Reads [Analyst Patrol Integrator Supervisor Admin];
    CreatePatrolUnit: PatrolService Changes [Supervisor Admin];
    UpdatePatrolUnit: PatrolService Changes [Supervisor Admin];
    DeletePatrolUnit: PatrolService Changes [Supervisor Admin];
    ExportEvidence: EvidenceService Reads [Analyst Supervisor];
    ListOddPatterns: AuditService Oversees [Supervisor];
    GrantRelease: ReleaseService Changes [Supervisor];
    ListReleases: ReleaseService Oversees [Supervisor];
    RevokeRelease: ReleaseService Changes [Supervisor];
    FindConvoys: TacticsService Reads [Analyst Supervisor];
    FindCollisions: TacticsService Reads [Analyst Supervisor];
    ListFirstEntries: TacticsService Reads [Analyst Supervisor];
    ListNightActive: TacticsService Reads [Analyst Supervisor];
    ListFrequent: TacticsService Reads [Analyst Supervisor];
    ListStops: TacticsService Reads [Analyst Supervisor];
    GetVehicleCard: TacticsService Reads [Analyst Supervisor];
    MeasureSectionSpeed: TacticsService Reads [Analyst Supervisor];
    JudgeClone: TacticsService Reads [Analyst Supervisor];
    ListClones: TacticsService Reads [Analyst Supervisor];
    WatchClones: TacticsService Reads [Analyst Supervisor];
    ForecastVehicle: TacticsService Reads [Analyst Patrol Supervisor];
    ListCameraGrades: TacticsService Reads [Analyst Supervisor Admin];
    ApproveTactic: TacticsService Changes [Supervisor];
}

impl Method {
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
        let why = match effect {
            Effect::Changes => "changes data: a token with a scope may only read",
            Effect::Oversees => "tells of everywhere: it is not for a token with a scope",
            Effect::Reads | Effect::Answers => return Ok(()),
        };
        match identity.scope {
            Scope::Everywhere => Ok(()),
            Scope::Cameras(_) | Scope::Area(_) => Err(Problem::Forbidden {
                reason: "SCOPE_FORBIDS",
                message: format!("{name} {why}"),
            }),
        }
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
    /// M admin; `!` marks a change, `o` what is about everywhere: a token with a scope may make neither.
    const EXPECTED: &str = "
        ListCameras            A P I S M
        GetCamera              A P I S M
        CreateCamera         ! - - - - M
        UpdateCamera         ! - - - - M
        OpenCamera             A - - S M
        DeleteCamera         ! - - - - M
        ListCoverage           A - - S M
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
        AcknowledgeAlert       A P - S -
        ListPatrolUnits        A P I S M
        CreatePatrolUnit     ! - - - S M
        UpdatePatrolUnit     ! - - - S M
        DeletePatrolUnit     ! - - - S M
        ExportEvidence         A - - S -
        ListOddPatterns      o - - - S -
        GrantRelease         ! - - - S -
        ListReleases         o - - - S -
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
        assert_eq!(rows.len(), Method::ALL.len());
        let mut tried = 0;
        for row in rows {
            let changes = row.contains('!');
            let oversees = row.contains(" o ");
            let words: Vec<_> =
                row.split_whitespace().filter(|word| !["!", "o"].contains(word)).collect();
            let method = Method::ALL
                .iter()
                .copied()
                .find(|method| method.name().ends_with(&format!("/{}", words[0])))
                .unwrap_or_else(|| panic!("no call {}", words[0]));
            assert_eq!(method.rule().effect == Effect::Changes, changes, "{method:?}");
            assert_eq!(method.rule().effect == Effect::Oversees, oversees, "{method:?}");
            for (role, letter) in
                [Analyst, Patrol, Integrator, Supervisor, Admin].into_iter().zip("APISM".chars())
            {
                let may = words[1..].contains(&letter.to_string().as_str());
                let told = method.permit(&caller(role, Scope::Everywhere));
                assert_eq!(told.is_ok(), may, "{method:?} by {role}");
                // Scoped: the same calls, without the changes and what is about everywhere.
                let scope = Scope::Cameras(Arc::default());
                let told = method.permit(&caller(role, scope));
                assert_eq!(
                    told.is_ok(),
                    may && !changes && !oversees,
                    "{method:?} by {role} with a scope"
                );
                tried += 1;
            }
            assert!(method.permit(&Caller::Unnamed).is_ok());
        }
        assert_eq!(tried, Method::ALL.len() * 5);
    }

    #[test]
    fn the_table_has_every_call_of_the_contract() {
        let set = prost_types::FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).unwrap();
        let own = set.file.iter().filter(|file| file.package() == "guiji.v1");
        let contract: BTreeSet<String> = own
            .flat_map(|file| &file.service)
            .flat_map(|s| s.method.iter().map(|m| format!("{}/{}", s.name(), m.name())))
            .collect();
        let table: BTreeSet<String> =
            Method::ALL.iter().map(|method| method.name().to_owned()).collect();
        assert_eq!(table, contract);
    }
}
