use std::collections::HashMap;
use std::time::Duration;

use guiji_domain::{
    Camera, CameraId, CaptureTime, ClockSource, DecodePolicy, GeoPoint, Heading, Pace, SiteId,
    StreamAddress, TimeSpan, Timestamp, Transport,
};
use rand::RngExt as _;
use rand_distr::{Distribution as _, LogNormal, Normal};

use crate::random::{Part, random};
use crate::roads::{NodeId, Place, Roads};

/// Sites with cameras, as the county that this one stands for has.
pub const SITES: usize = 304;
/// Cameras at them; with fewer sites there are as many fewer.
pub const CAMERAS: usize = 1131;
/// How many sites a county may have: fewer would not meet a vehicle twice.
pub(crate) const SITES_POSSIBLE: std::ops::RangeInclusive<usize> = 20..=SITES;
/// No camera's clock is off by more.
pub const CLOCK_ERROR_MAX: Duration = Duration::from_secs(10);

/// Share of camera days on which a camera fails.
const OUTAGE_DAYS: f64 = 0.03;
const OUTAGE_MEAN_S: f64 = 3.0 * 3600.0;

/// A time over which a camera sees nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Which camera: its place in [`crate::County::cameras`].
    pub camera: usize,
    /// From when to when.
    pub span: TimeSpan,
}

/// What is true of a camera beyond its registration.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) node: NodeId,
    from: NodeId,
    pub(crate) heading: Heading,
    /// Course of the vehicles that it sees, degrees.
    pub(crate) course_deg: f32,
    /// Its clock less the true time, nanoseconds.
    pub(crate) clock_error_ns: i64,
    /// What it claims of its clock.
    pub(crate) uncertainty: Duration,
    pub(crate) source: ClockSource,
    /// How much oftener than the average it misreads.
    pub(crate) error_factor: f64,
}

impl Device {
    pub(crate) fn captured(&self, passed: Timestamp) -> CaptureTime {
        let at = Timestamp::from_nanos(passed.as_nanos() + self.clock_error_ns);
        CaptureTime { at, uncertainty: self.uncertainty, source: self.source }
    }
}

/// All cameras, and which of them watch whom.
#[derive(Debug)]
pub(crate) struct Cameras {
    pub(crate) registrations: Vec<Camera>,
    pub(crate) devices: Vec<Device>,
    /// By junction and where a vehicle comes from: the cameras of that approach, one a lane.
    approaches: HashMap<(NodeId, NodeId), Vec<u16>>,
}

impl Cameras {
    /// Sites stand where most vehicles pass, one in four of them elsewhere; an approach has a camera, and the busiest
    /// have one for each of two lanes or more. `passes` counts vehicles by junction and where they come from.
    pub(crate) fn new(
        seed: u64,
        roads: &Roads,
        passes: &HashMap<(NodeId, NodeId), u32>,
        site_count: usize,
    ) -> Self {
        let camera_count = CAMERAS * site_count / SITES;
        let mut rng = random(seed, Part::Cameras, 0);
        let busy = |node: NodeId| -> u32 {
            let from = roads.hops(node).iter();
            from.map(|hop| passes.get(&(node, hop.to)).copied().unwrap_or(0)).sum()
        };
        let mut nodes: Vec<_> = roads.nodes().map(|node| (busy(node), node)).collect();
        nodes.sort_by(|a, b| b.cmp(a));
        // All of them stand as close as they come; fewer keep a junction or two between them, as a county with few does.
        let near = |a: NodeId, b: NodeId| {
            let beside = |a: NodeId| roads.hops(a).iter().map(|hop| hop.to);
            beside(a).any(|c| c == b || beside(c).any(|d| d == b))
        };
        let mut sites: Vec<NodeId> = Vec::with_capacity(site_count);
        let mut left = Vec::with_capacity(nodes.len());
        for (passes, node) in nodes {
            let close = site_count < SITES && sites.iter().any(|site| near(*site, node));
            if sites.len() < site_count * 3 / 4 && !close {
                sites.push(node);
            } else {
                left.push((passes, node));
            }
        }
        let mut nodes = left;
        while sites.len() < site_count {
            sites.push(nodes.swap_remove(rng.random_range(0..nodes.len())).1);
        }
        sites.sort_unstable();

        let mut seats: Vec<(NodeId, NodeId)> = Vec::with_capacity(camera_count);
        // The busiest approach of each site first, so that each has one; then the others; then second lanes.
        let mut approaches: Vec<_> = sites
            .iter()
            .flat_map(|site| {
                let mut from: Vec<_> = roads.hops(*site).iter().map(|hop| hop.to).collect();
                from.sort_by_key(|from| {
                    (u32::MAX - passes.get(&(*site, *from)).copied().unwrap_or(0), *from)
                });
                from.into_iter().enumerate().map(|(i, from)| (i > 0, *site, from))
            })
            .collect();
        approaches.sort_by_key(|(later, site, from)| {
            (*later, u32::MAX - passes.get(&(*site, *from)).copied().unwrap_or(0), *site, *from)
        });
        seats.extend(
            approaches.iter().cycle().take(camera_count).map(|(_, site, from)| (*site, *from)),
        );
        seats.sort_unstable();

        let mut cameras = Self {
            registrations: Vec::with_capacity(camera_count),
            devices: Vec::with_capacity(camera_count),
            approaches: HashMap::new(),
        };
        let mut at_site = HashMap::new();
        for (node, from) in seats {
            let site = sites.binary_search(&node).unwrap_or_default() + 1;
            let number = at_site.entry(node).and_modify(|n| *n += 1).or_insert(1);
            cameras.place(seed, roads, (site, *number), node, from);
        }
        cameras.weigh_errors(passes);
        cameras
    }

    fn place(
        &mut self,
        seed: u64,
        roads: &Roads,
        (site, number): (usize, usize),
        node: NodeId,
        from: NodeId,
    ) {
        let index = self.devices.len();
        let mut rng = random(seed, Part::Cameras, 1 + index as u64);
        let course = roads.bearing_deg(from, node);
        // Most look towards the traffic, the others after it.
        let heading = if rng.random_bool(0.7) { Heading::Approaching } else { Heading::Receding };
        let looks = if heading == Heading::Approaching { course + 180.0 } else { course };
        let milliseconds = |mean: f64, deviation: f64, rng: &mut _| {
            let normal = Normal::new(mean, deviation).map_or(mean, |normal| normal.sample(rng));
            (normal * 1e6) as i64
        };
        let (source, uncertainty_ms, clock_error_ns) = match rng.random_range(0..100) {
            0..85 => (ClockSource::Rtcp, 100, milliseconds(0.0, 30.0, &mut rng)),
            85..97 => (ClockSource::Arrival, 500, milliseconds(150.0, 80.0, &mut rng)),
            // A wrong clock that does not know it.
            _ => {
                let off =
                    rng.random_range(2_000.0..9_000.0) * if rng.random() { 1.0 } else { -1.0 };
                (ClockSource::Rtcp, 100, milliseconds(off, 10.0, &mut rng))
            }
        };
        let limit = CLOCK_ERROR_MAX.as_nanos() as i64;
        self.devices.push(Device {
            node,
            from,
            heading,
            course_deg: course as f32,
            clock_error_ns: clock_error_ns.clamp(-limit, limit),
            uncertainty: Duration::from_millis(uncertainty_ms),
            source,
            error_factor: LogNormal::new(0.0, 0.5).map_or(1.0, |law| law.sample(&mut rng)),
        });
        let id = format!("S{site:03}-{number}");
        let named = "generated ids and addresses are well formed";
        self.registrations.push(Camera {
            id: CameraId::new(&id).expect(named),
            site: SiteId::new(&format!("S{site:03}")).expect(named),
            name: display_name(roads, site, node, course),
            position: beside(roads.position(node), course, 15.0),
            bearing_deg: Some((looks.rem_euclid(360.0) * 10.0).round() / 10.0),
            // A name that never resolves (RFC 2606): nothing is there to be opened.
            address: StreamAddress::new(&format!("rtsp://county.invalid/{id}")).expect(named),
            credentials: None,
            transport: Transport::Tcp,
            pace: Pace::RealTime,
            policy: DecodePolicy::Full,
            analysed_fps_max: 25.0,
            recorded_at: None,
            lanes: None,
            substream: None,
            onvif: None,
            enabled: false,
        });
        // Below CAMERAS, so it fits.
        self.approaches.entry((node, from)).or_default().push(index as u16);
    }

    /// Makes the mean over passages of all error factors 1.
    fn weigh_errors(&mut self, passes: &HashMap<(NodeId, NodeId), u32>) {
        let (mut sum, mut weight) = (0.0, 0.0);
        for device in &self.devices {
            let approach = (device.node, device.from);
            let lanes = self.of_approach(device.node, device.from).len();
            let share = f64::from(passes.get(&approach).copied().unwrap_or(0)) / lanes as f64;
            sum += share * device.error_factor;
            weight += share;
        }
        for device in &mut self.devices {
            device.error_factor *= weight / sum;
        }
    }

    /// The cameras of an approach, one a lane; none where nobody watches.
    pub(crate) fn of_approach(&self, node: NodeId, from: NodeId) -> &[u16] {
        self.approaches.get(&(node, from)).map_or(&[], Vec::as_slice)
    }
}

/// Whether and when a camera fails on a day, given as its midnight.
pub(crate) fn outage(seed: u64, camera: usize, day: u32, midnight: Timestamp) -> Option<Outage> {
    let mut rng = random(seed, Part::Outage, (u64::from(day) << 16) | camera as u64);
    if !rng.random_bool(OUTAGE_DAYS) {
        return None;
    }
    let begins = rng.random_range(0.0..86_400.0);
    // Exponentially distributed.
    let lasts = -OUTAGE_MEAN_S * (1.0 - rng.random::<f64>()).ln();
    let at = |seconds: f64| midnight.plus(Duration::from_secs_f64(seconds.min(86_400.0)));
    let span = TimeSpan::new(at(begins), at(begins + lasts)).ok()?;
    Some(Outage { camera, span })
}

fn display_name(roads: &Roads, site: usize, node: NodeId, course: f64) -> String {
    let place = match roads.place(node) {
        Place::Town => "城区",
        Place::Village => "乡镇",
        Place::Road => "公路",
        Place::Gate => "卡口",
    };
    let from = ["南", "西", "北", "东"][((course + 45.0) / 90.0) as usize % 4];
    format!("三门{place}{site:03}号{from}进口")
}

/// A place some metres back along a course.
fn beside(at: GeoPoint, course_deg: f64, metres: f64) -> GeoPoint {
    let (north, east) = (course_deg.to_radians().cos(), course_deg.to_radians().sin());
    let degrees = metres / 111_195.08;
    let lat_deg = at.lat_deg() - north * degrees;
    let lon_deg = at.lon_deg() - east * degrees / at.lat_deg().to_radians().cos();
    GeoPoint::new(lat_deg, lon_deg).unwrap_or(at)
}
