#!/usr/bin/env python3
"""Guiji in five minutes: import sightings, ask for them, and hear an alert.

    pip install -r tests/python/requirements.txt
    python examples/python/quickstart.py 127.0.0.1:7654

Needs a server of this machine without tokens; nothing but the protos and packages from pip. It registers a made-up
camera, watches for a plate, imports two sightings of it as another system would, finds them again, and waits until
the alert has rung.
"""

import datetime
import pathlib
import sys
import tempfile
import uuid

import grpc
import grpc_tools
from google.protobuf import duration_pb2, timestamp_pb2
from grpc_tools import protoc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"
PLATE = "浙J8K088"


def generate(folder):
    """Makes Python modules of proto/guiji/v1; a real program does this once, when it is built."""
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("guiji/v1/*.proto"))
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    includes = [f"-I{PROTO}", f"-I{well_known}"]
    if protoc.main(["protoc", *includes, f"--python_out={folder}", f"--grpc_python_out={folder}", *files]) != 0:
        raise SystemExit("the protos do not compile")
    sys.path.insert(0, folder)


def stamp(time):
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(time)
    return message


def main(address):
    from guiji.v1 import (
        alert_service_pb2,
        alert_service_pb2_grpc,
        authority_pb2,
        camera_pb2,
        geo_pb2,
        import_service_pb2,
        import_service_pb2_grpc,
        sighting_pb2,
        sighting_service_pb2,
        sighting_service_pb2_grpc,
        watchlist_service_pb2,
        watchlist_service_pb2_grpc,
    )

    # By what right: it stands in the server's audit. With a token, leave the officer out.
    authority = authority_pb2.Authority(purpose="quick start", case_number="DEMO-1", officer="quickstart.py")
    now = datetime.datetime.now(datetime.timezone.utc)
    camera = "quickstart-1"

    with grpc.insecure_channel(address) as channel:
        # 1. A camera of another system: registered so that its sightings have a place, never opened by this server.
        imports = import_service_pb2_grpc.ImportServiceStub(channel)
        registered = imports.ImportCameras(
            import_service_pb2.ImportCamerasRequest(
                authority=authority,
                cameras=[
                    camera_pb2.Camera(
                        name=f"cameras/{camera}",
                        site="quickstart",
                        display_name="Quick start",
                        position=geo_pb2.GeoPoint(latitude_deg=29.1, longitude_deg=121.4),
                        stream_address="rtsp://192.0.2.1/none",
                        disabled=True,
                    )
                ],
            ),
            timeout=30,
        )
        if registered.refused_count:
            raise SystemExit(f"the camera was refused: {registered.refusals}")

        # 2. Watch for a plate, and follow the alerts from now on: the first message says from where.
        entry = f"quickstart-{uuid.uuid4().hex[:8]}"
        watchlist = watchlist_service_pb2_grpc.WatchlistServiceStub(channel)
        watchlist.CreateWatchlistEntry(
            watchlist_service_pb2.CreateWatchlistEntryRequest(
                authority=authority,
                watchlist_entry_id=entry,
                watchlist_entry=watchlist_service_pb2.WatchlistEntry(
                    plate=PLATE, reason="quick start", expire_time=stamp(now + datetime.timedelta(days=1))
                ),
            ),
            timeout=30,
        )
        alerts = alert_service_pb2_grpc.AlertServiceStub(channel).StreamAlerts(
            alert_service_pb2.StreamAlertsRequest(authority=authority, from_now=alert_service_pb2.FromNow()),
            timeout=60,
        )
        next(alerts)

        # 3. Import two sightings, of which the second is of this moment: an entry rings for what is captured after it
        # was made. A name begins with the time; the rest is the importer's own, so that the same
        # sighting given twice is taken once.
        sightings = []
        for minutes in (9, 0):
            seen = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=minutes)
            time = stamp(seen)
            own = uuid.uuid4().int >> 64
            sightings.append(
                sighting_pb2.Sighting(
                    name=f"sightings/{time.ToNanoseconds() + 2**63:016x}{own:016x}",
                    camera=f"cameras/{camera}",
                    capture=sighting_pb2.CaptureTime(
                        time=time,
                        uncertainty=duration_pb2.Duration(nanos=200_000_000),
                        source=sighting_pb2.CLOCK_SOURCE_STATED,
                    ),
                    plate_state=sighting_pb2.PLATE_STATE_READ,
                    plate=sighting_pb2.Plate(text=PLATE, confidence=0.98, read_count=5),
                    frame_count=12,
                )
            )
        chunk = import_service_pb2.ImportSightingsRequest(authority=authority, sightings=sightings)
        answer = imports.ImportSightings(iter([chunk]), timeout=60)
        if answer.refused_count:
            raise SystemExit(f"refused: {answer.refusals}")
        print("imported:", answer.stored_count)

        # 4. Ask for them.
        page = sighting_service_pb2_grpc.SightingServiceStub(channel).SearchSightings(
            sighting_service_pb2.SearchSightingsRequest(
                authority=authority,
                filter=sighting_service_pb2.SightingFilter(
                    plate_pattern="浙J8K*", start_time=stamp(now - datetime.timedelta(minutes=10))
                ),
                page_size=10,
            ),
            timeout=30,
        )
        for sighting in page.sightings:
            print("found:", sighting.plate.text, sighting.camera, sighting.capture.time.ToJsonString())

        # 5. Hear the alert. A real program stores the cursor after each, and begins there again.
        for message in alerts:
            if message.WhichOneof("event") == "alert" and message.alert.name.endswith(entry):
                print("alert:", message.alert.plate, "cursor", message.alert.cursor)
                break
        alerts.cancel()
        watchlist.DeleteWatchlistEntry(
            watchlist_service_pb2.DeleteWatchlistEntryRequest(
                authority=authority, name=f"watchlistEntries/{entry}"
            ),
            timeout=30,
        )
    print("done")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        generate(folder)
        main(sys.argv[1])
