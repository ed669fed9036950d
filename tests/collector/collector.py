"""A collector for tests: takes OTLP over gRPC and over HTTP, by OpenTelemetry's own protocol files, and writes down what came.

The first line on standard output says where it listens. Each export is a line of JSON in FILE. Ends with its standard
input, so that none is left behind.
"""

import argparse
import json
import os
import ssl
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service
from opentelemetry.proto.trace.v1 import trace_pb2

arguments = argparse.ArgumentParser()
arguments.add_argument("file")
arguments.add_argument("--grpc-port", type=int, default=0)
arguments.add_argument("--away", type=int, default=0, help="that many exports are to come again later")
arguments.add_argument("--refuse", action="store_true", help="every export, for good")
arguments.add_argument("--reject", type=int, default=0, help="that many spans of every export")
arguments.add_argument("--certificate")
arguments.add_argument("--key")
options = arguments.parse_args()

lock = threading.Lock()
away = options.away


def is_away():
    """Whether this export is among those that have to come again."""
    global away
    with lock:
        away -= 1
        return away >= 0


def plain(attributes):
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def described(span):
    return {
        "trace": span.trace_id.hex(),
        "id": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "state": span.trace_state,
        "name": span.name,
        "kind": trace_pb2.Span.SpanKind.Name(span.kind),
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "attributes": plain(span.attributes),
        "status": trace_pb2.Status.StatusCode.Name(span.status.code),
        "message": span.status.message,
        "flags": span.flags,
    }


def write_down(protocol, fields, request):
    lines = [
        {
            "protocol": protocol,
            "headers": fields,
            "resource": plain(resource.resource.attributes),
            "scope": scope.scope.name,
            "spans": [described(span) for span in scope.spans],
        }
        for resource in request.resource_spans
        for scope in resource.scope_spans
    ]
    with lock, open(options.file, "a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


def answer():
    partial = messages.ExportTracePartialSuccess(rejected_spans=options.reject, error_message="too many of them")
    return messages.ExportTraceServiceResponse(partial_success=partial if options.reject else None)


class Traces(service.TraceServiceServicer):
    def Export(self, request, context):
        if options.refuse:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")
        if is_away():
            context.abort(grpc.StatusCode.UNAVAILABLE, "come again")
        write_down("grpc", dict(context.invocation_metadata()), request)
        return answer()


class Posts(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path != "/v1/traces" or self.headers["content-type"] != "application/x-protobuf":
            return self.reply(404)
        if options.refuse:
            return self.reply(401)
        if is_away():
            return self.reply(503)
        fields = {name.lower(): value for name, value in self.headers.items()}
        write_down("http", fields, messages.ExportTraceServiceRequest.FromString(body))
        self.reply(200, answer().SerializeToString())

    def reply(self, status, body=b""):
        self.send_response(status)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve_grpc():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    service.add_TraceServiceServicer_to_server(Traces(), server)
    address = f"127.0.0.1:{options.grpc_port}"
    if options.certificate:
        with open(options.key, "rb") as key, open(options.certificate, "rb") as certificate:
            credentials = grpc.ssl_server_credentials([(key.read(), certificate.read())])
        port = server.add_secure_port(address, credentials)
    else:
        port = server.add_insecure_port(address)
    server.start()
    return server, port


def serve_http():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Posts)
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


running, grpc_port = serve_grpc()
print(json.dumps({"grpc": grpc_port, "http": serve_http()}), flush=True)
sys.stdin.read()
os._exit(0)
