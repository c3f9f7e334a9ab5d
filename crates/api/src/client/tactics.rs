//! The tactics: one method a call, each with the client's authority.

use super::{Client, ClientError};
use crate::pb;
use crate::pb::tactics_service_client::TacticsServiceClient;

macro_rules! tactics {
    ($($(#[$doc:meta])+ $name:ident($request:ident) -> $response:ident;)+) => {
        impl Client {
            $($(#[$doc])+
            ///
            /// # Errors
            /// What the server or the connection says.
            pub async fn $name(
                &self,
                request: pb::$request,
            ) -> Result<pb::$response, ClientError> {
                let request = pb::$request { authority: self.authority(), ..request };
                let mut client = TacticsServiceClient::new(self.channel.clone());
                Ok(client.$name(request).await?.into_inner())
            })+
        }
    };
}

tactics! {
    /// A page of a vehicle's company.
    find_convoys(FindConvoysRequest) -> FindConvoysResponse;
    /// A page of those who were in several areas.
    find_collisions(FindCollisionsRequest) -> FindCollisionsResponse;
    /// A page of those who came in after a long absence.
    list_first_entries(ListFirstEntriesRequest) -> ListFirstEntriesResponse;
    /// A page of those who move by night.
    list_night_active(ListNightActiveRequest) -> ListNightActiveResponse;
    /// A page of those who pass a place often.
    list_frequent(ListFrequentRequest) -> ListFrequentResponse;
    /// Where a vehicle stays.
    list_stops(ListStopsRequest) -> ListStopsResponse;
    /// What is known of a vehicle.
    get_vehicle_card(GetVehicleCardRequest) -> GetVehicleCardResponse;
    /// The speed between two sightings.
    measure_section_speed(MeasureSectionSpeedRequest) -> MeasureSectionSpeedResponse;
    /// Whether a plate is cloned.
    judge_clone(JudgeCloneRequest) -> JudgeCloneResponse;
    /// A page of cloned plates.
    list_clones(ListClonesRequest) -> ListClonesResponse;
    /// Where a vehicle will be next.
    forecast_vehicle(ForecastVehicleRequest) -> ForecastVehicleResponse;
    /// A page of cameras, the costliest first.
    list_camera_grades(ListCameraGradesRequest) -> ListCameraGradesResponse;
    /// Releases a tactic for somebody else.
    approve_tactic(ApproveTacticRequest) -> ApproveTacticResponse;
}
