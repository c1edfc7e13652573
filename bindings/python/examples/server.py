"""An HTTP server that speaks, with the standard library alone: python server.py VOICE [PORT], then

    curl 'http://127.0.0.1:8000/?text=Hello.' | ffplay -f s16le -ar 22050 -
"""
# begin
import http.server, sys, urllib.parse, vitstream
voice = vitstream.Voice.open(sys.argv[1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("text", [""])[0]
        with voice.stream(text or "There is no text.", format="int16") as stream:
            self.send_response(200), self.send_header("Content-Type", f"audio/L16; rate={voice.sample_rate}"), self.end_headers()
            for chunk in stream:
                self.wfile.write(chunk)
http.server.ThreadingHTTPServer(("127.0.0.1", int((sys.argv + ["8000"])[2])), Handler).serve_forever()
