#!/usr/bin/env python3
"""A second peer of Guiji's API that knows nothing but the protos.

    pip install -r tests/python/requirements.txt
    python tests/python/peer.py HOST:PORT PLATE

Generates its stubs from proto/ into a temporary folder, then lists cameras, searches for the plate, fetches a picture
and proves it, gets the trajectory, reads the alert log as a stream from a cursor, and checks that a request without
authority is refused with details. Prints one JSON line; exits with 1 when something is not as promised.
"""

import argparse
import hashlib
import importlib.util
import json
import pathlib
import sys
import tempfile

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from grpc_tools import protoc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"
SECONDS_MAX = 15


def generate(folder):
    """Makes the Python stubs of proto/guiji/v1 importable."""
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("guiji/v1/*.proto"))
    well_known = pathlib.Path(importlib.util.find_spec("grpc_tools").origin).parent / "_proto"
    arguments = ["protoc", f"-I{PROTO}", f"-I{well_known}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    if protoc.main(arguments + files) != 0:
        raise SystemExit("the protos do not compile")
    sys.path.insert(0, str(folder))


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def talk(address, plate):
    from guiji.v1 import (
        alert_service_pb2 as alerts_pb,
        alert_service_pb2_grpc as alerts_rpc,
        authority_pb2,
        camera_service_pb2 as cameras_pb,
        camera_service_pb2_grpc as cameras_rpc,
        sighting_service_pb2 as sightings_pb,
        sighting_service_pb2_grpc as sightings_rpc,
        trajectory_service_pb2 as trajectory_pb,
        trajectory_service_pb2_grpc as trajectory_rpc,
    )

    authority = authority_pb2.Authority(purpose="test of the contract", case_number="PEER-1", officer="peer.py")
    report = {}
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=SECONDS_MAX, wait_for_ready=True
        )
        expect(health.status == health_pb2.HealthCheckResponse.SERVING, "the server is not serving")

        cameras = cameras_rpc.CameraServiceStub(channel).ListCameras(
            cameras_pb.ListCamerasRequest(authority=authority, page_size=1000), timeout=SECONDS_MAX
        )
        report["cameras"] = len(cameras.cameras)

        sightings = sightings_rpc.SightingServiceStub(channel)
        names, token = [], ""
        while True:
            page = sightings.SearchSightings(
                sightings_pb.SearchSightingsRequest(
                    authority=authority,
                    filter=sightings_pb.SightingFilter(plate_pattern=plate),
                    order=sightings_pb.SORT_ORDER_OLDEST_FIRST,
                    page_size=50,
                    page_token=token,
                ),
                timeout=SECONDS_MAX,
            )
            names += [sighting.name for sighting in page.sightings]
            for evidence in (e for s in page.sightings for e in s.evidence if "evidence_bytes" not in report):
                report["evidence_bytes"] = fetch(sightings, sightings_pb, authority, evidence)
            token = page.next_page_token
            if not token:
                break
        expect(len(set(names)) == len(names), "a sighting came twice over the pages")
        report["sightings"] = len(names)

        way = trajectory_rpc.TrajectoryServiceStub(channel).GetTrajectory(
            trajectory_pb.GetTrajectoryRequest(authority=authority, plate=plate), timeout=SECONDS_MAX
        ).trajectory
        expect(len(way.legs) == max(0, len(way.points) - 1), "legs do not join the points")
        times = [point.sighting.capture.time.ToNanoseconds() for point in way.points]
        expect(times == sorted(times), "the trajectory is not in order of time")
        report["plate"] = way.plate
        report["trajectory"] = {
            "points": len(way.points),
            "cameras": [point.sighting.camera for point in way.points],
            "distance_m": round(way.distance_m, 1),
            "gaps": len(way.gaps),
        }

        report["alerts"] = read_alerts(alerts_rpc.AlertServiceStub(channel), alerts_pb, authority)
        report["refused"] = refusal(cameras_rpc.CameraServiceStub(channel), cameras_pb)
    return report


def fetch(sightings, sightings_pb, authority, evidence):
    """Fetches a picture and proves that its bytes have the digest that the sighting names."""
    request = sightings_pb.GetEvidenceRequest(authority=authority, name=evidence.name)
    parts = list(sightings.GetEvidence(request, timeout=SECONDS_MAX))
    expect(parts[0].WhichOneof("part") == "header", "evidence does not begin with its header")
    data = b"".join(part.chunk for part in parts[1:])
    expect(hashlib.sha256(data).hexdigest() == evidence.sha256, "evidence does not have its digest")
    expect(len(data) == evidence.size_bytes, "evidence does not have its size")
    return len(data)


def read_alerts(alerts, alerts_pb, authority):
    """Reads the log from its beginning, breaks off in the middle and goes on from the cursor."""
    now = alerts.StreamAlerts(
        alerts_pb.StreamAlertsRequest(authority=authority, from_now=alerts_pb.FromNow()), timeout=SECONDS_MAX
    )
    end = next(now).heartbeat.cursor
    now.cancel()
    cursor, seen, streams = 0, 0, 0
    while cursor < end:
        stream = alerts.StreamAlerts(
            alerts_pb.StreamAlertsRequest(authority=authority, after_cursor=cursor), timeout=SECONDS_MAX
        )
        streams += 1
        break_at = seen + max(1, end // 2)
        for message in stream:
            if message.WhichOneof("event") == "alert":
                expect(message.alert.cursor > cursor, "a cursor did not rise")
                cursor, seen = message.alert.cursor, seen + 1
            if cursor >= end or seen >= break_at:
                break
        stream.cancel()
    return {"seen": seen, "last_cursor": cursor, "streams": streams}


def refusal(cameras, cameras_pb):
    """Asks without authority, and reads the details of the refusal."""
    try:
        cameras.ListCameras(cameras_pb.ListCamerasRequest(), timeout=SECONDS_MAX)
    except grpc.RpcError as error:
        expect(error.code() == grpc.StatusCode.INVALID_ARGUMENT, f"refused with {error.code()}")
        bad, info = error_details_pb2.BadRequest(), error_details_pb2.ErrorInfo()
        for detail in rpc_status.from_call(error).details:
            detail.Unpack(bad) or detail.Unpack(info)
        fields = [violation.field for violation in bad.field_violations]
        expect(fields == ["authority"], f"the refusal names {fields}")
        return {"code": error.code().name, "fields": fields, "reason": info.reason}
    raise AssertionError("a request without authority was answered")


def main():
    arguments = argparse.ArgumentParser(description="talk to a Guiji server from its protos only")
    arguments.add_argument("address", help="HOST:PORT")
    arguments.add_argument("plate", help="a whole plate, like 浙J12345")
    arguments = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generate(folder)
        try:
            report = {"ok": True} | talk(arguments.address, arguments.plate)
        except (AssertionError, grpc.RpcError) as error:
            details = error.details() if isinstance(error, grpc.RpcError) else str(error)
            report = {"ok": False, "error": details}
    print(json.dumps(report, ensure_ascii=False))
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
