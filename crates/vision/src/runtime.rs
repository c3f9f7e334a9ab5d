//! ONNX Runtime: the library loaded once a process, and a few sessions a model.

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use guiji_domain::VisionError;
use ort::environment::Environment;
use ort::session::Session;
use ort::session::SessionInputValue;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::{TensorElementType, TensorRef};

use crate::VisionLoadError;
use crate::decode::Outputs;
use crate::manifest::ModelEntry;
use crate::tensor::{Numbers, PictureBatch, PictureSpec};

/// The library, once loaded: it cannot be unloaded or loaded twice, so it stays for the life of the process.
static LOADED: OnceLock<Mutex<Option<(PathBuf, Environment)>>> = OnceLock::new();

/// Loads the library, or hands out what is loaded already.
pub(crate) fn environment(library: &Path) -> Result<Environment, VisionLoadError> {
    let wrong = |reason: String| VisionLoadError::Runtime { reason };
    let library = library.canonicalize().map_err(|e| {
        wrong(format!("{} cannot be opened: {e}: run `./x models`", library.display()))
    })?;
    let mut loaded =
        LOADED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, environment)) = &*loaded {
        if *path == library {
            return Ok(environment.clone());
        }
        let (path, other) = (path.display(), library.display());
        return Err(wrong(format!(
            "{path} is loaded already and {other} cannot be loaded beside it: use one library a process"
        )));
    }
    let builder = ort::init_from(&library).map_err(|e| {
        let path = library.display();
        wrong(format!(
            "{path} cannot be loaded: {e}: it must be version 1.24 or newer, for this processor"
        ))
    })?;
    let environment = builder
        .with_name("guiji")
        .with_telemetry(false)
        .build()
        .map_err(|e| wrong(e.message().to_owned()))?;
    *loaded = Some((library, environment.clone()));
    Ok(environment)
}

/// One model with a fixed number of sessions. ONNX Runtime's `Run` is not safe to call on one session from several
/// threads (see `ort::session::Session`), so each caller borrows a whole session and, with it, a buffer for its
/// input.
pub(crate) struct Model {
    id: String,
    input: String,
    lanes: Mutex<Vec<Lane>>,
    returned: Condvar,
}

/// A session and the buffer of its input.
struct Lane {
    session: Session,
    batch: PictureBatch,
}

impl Model {
    /// Makes `count` sessions of one thread each.
    pub(crate) fn load(
        environment: &Environment,
        entry: &ModelEntry,
        bytes: &[u8],
        count: usize,
    ) -> Result<Self, VisionLoadError> {
        let wrong = |reason: String| VisionLoadError::Model { model: entry.id.clone(), reason };
        let spec = PictureSpec::new(
            entry.input.layout,
            entry.input.colour,
            entry.input.dtype.into(),
            entry.input.mean,
            entry.input.std,
        )
        .map_err(wrong)?;
        let lane = || -> Result<Lane, VisionLoadError> {
            let session = session(environment, bytes).map_err(|e| wrong(e.message().to_owned()))?;
            let names: Vec<_> = session.inputs().iter().map(|i| i.name()).collect();
            if names != [entry.input.name.as_str()] {
                return Err(wrong(format!(
                    "has the inputs {names:?}, the manifest says {:?}",
                    entry.input.name
                )));
            }
            for output in &entry.output {
                if !session.outputs().iter().any(|o| o.name() == output.name) {
                    return Err(wrong(format!(
                        "has no output {:?}, which the manifest says",
                        output.name
                    )));
                }
            }
            Ok(Lane { session, batch: PictureBatch::new(spec, entry.input.fill) })
        };
        Ok(Self {
            id: entry.id.clone(),
            input: entry.input.name.clone(),
            lanes: Mutex::new((0..count.max(1)).map(|_| lane()).collect::<Result<_, _>>()?),
            returned: Condvar::new(),
        })
    }

    /// Name in the manifest.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Borrows a session (waiting until one is free), has its batch filled, runs the model and reads the outputs.
    pub(crate) fn infer<T>(
        &self,
        fill: impl FnOnce(&mut PictureBatch),
        read: impl FnOnce(&Outputs<'_>) -> Result<T, String>,
    ) -> Result<T, VisionError> {
        let mut borrowed = self.borrow();
        let Some(Lane { session, batch }) = &mut borrowed.lane else {
            return Err(self.failed("no session"));
        };
        fill(batch);
        let failed = |e: ort::Error| self.failed(e.message());
        let input = tensor(batch).map_err(failed)?;
        let values = session.run(ort::inputs![self.input.as_str() => input]).map_err(failed)?;
        let outputs = values.keys().map(|name| (name, &values[name]));
        // Outputs of other types are none that a decoder here reads.
        let floats = outputs
            .filter(|(_, value)| value.dtype().tensor_type() == Some(TensorElementType::Float32));
        let outputs = floats.map(|(name, value)| {
            value.try_extract_array::<f32>().map(|array| (name, array)).map_err(failed)
        });
        let outputs = outputs.collect::<Result<Vec<_>, _>>()?;
        read(&Outputs(outputs)).map_err(|reason| self.failed(reason))
    }

    fn borrow(&self) -> Borrowed<'_> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(lane) = lanes.pop() {
                return Borrowed { model: self, lane: Some(lane) };
            }
            lanes = self.returned.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn failed(&self, reason: impl ToString) -> VisionError {
        VisionError::Inference { model: self.id.clone(), reason: reason.to_string() }
    }
}

fn session(environment: &Environment, bytes: &[u8]) -> ort::Result<Session> {
    Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::Level3)?
        .with_parallel_execution(false)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .commit_from_memory(bytes)
}

fn tensor(batch: &PictureBatch) -> ort::Result<SessionInputValue<'_>> {
    let shape = batch.shape();
    Ok(match &batch.numbers {
        Numbers::Uint8(numbers) => TensorRef::from_array_view((shape, &numbers[..]))?.into(),
        Numbers::Float32(numbers) => TensorRef::from_array_view((shape, &numbers[..]))?.into(),
    })
}

/// A session on loan, given back when dropped, also by a panic.
struct Borrowed<'m> {
    model: &'m Model,
    /// Always there until the drop.
    lane: Option<Lane>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.take() {
            self.model.lanes.lock().unwrap_or_else(PoisonError::into_inner).push(lane);
            self.model.returned.notify_one();
        }
    }
}
