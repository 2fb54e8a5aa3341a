#!/usr/bin/env bash
# Where a connection ends in the middle of an answer, Ruby's Net::HTTP (ruby 3.1.2, Debian's package ruby) sends a GET a second
# time, by itself, and calls the same block with the new answer. A program that reads a stream of events in the block goes on as
# if nothing had happened: the second request is the first one again, without a `Last-Event-ID`, so that what was sent in
# between is missing. With `max_retries = 0` the connection's end is an error, as one expects.
#
# Seen: 2 requests, none with a `Last-Event-ID`, and the events 1, 2, 7, 8 without an error; with `max_retries = 0` 1 request,
# the events 1, 2, and EOFError.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
command -v ruby >/dev/null || { echo "needs Ruby, such as Debian's package ruby"; exit 2; }
cat > probe.rb <<'RUBY'
require 'net/http'
require 'socket'

# Two events, and then either no end of the answer (the first time) or its end. Meanwhile four more have been sent.
def serve(listener, requests)
  loop do
    client = listener.accept
    head = []
    while (line = client.gets) && line != "\r\n" do head << line end
    requests << head.any? { |line| line =~ /\Alast-event-id:/i }
    events = (requests.size == 1 ? [1, 2] : [7, 8]).map { |n| "id: #{n}\ndata: #{n}\n\n" }.join
    client.write "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.write "#{events.bytesize.to_s(16)}\r\n#{events}\r\n#{"0\r\n\r\n" if requests.size > 1}"
    client.close
  end
end

def follow(**options)
  listener = TCPServer.new('127.0.0.1', 0)
  requests = []
  server = Thread.new { serve(listener, requests) }
  seen = []
  ended = begin
    Net::HTTP.start('127.0.0.1', listener.addr[1], read_timeout: 10, **options) do |http|
      http.request(Net::HTTP::Get.new('/')) { |answer| answer.read_body { |piece| seen.concat(piece.scan(/^data: (\d+)/).flatten) } }
    end
    'no error'
  rescue EOFError => error
    error.class
  end
  server.kill
  "#{requests.size} request(s), #{requests.count(true)} with Last-Event-ID, events #{seen.join(' ')}, #{ended}"
end

puts "by default: #{follow}"
puts "max_retries 0: #{follow(max_retries: 0)}"
RUBY
ruby --version
timeout 60 ruby probe.rb > seen || { cat seen; exit 1; }
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
by default: 2 request(s), 0 with Last-Event-ID, events 1 2 7 8, no error
max_retries 0: 1 request(s), 0 with Last-Event-ID, events 1 2, EOFError
SEEN
