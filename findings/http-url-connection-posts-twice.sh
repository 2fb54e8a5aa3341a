#!/usr/bin/env bash
# Java's HttpURLConnection (OpenJDK 17, Debian's openjdk-17-jdk-headless) sends a POST a second time, by itself, where the
# server has read the whole request and closes the connection without an answer. The program sees one exception, of the second
# request; nothing tells it that there were two. java.net.http.HttpClient of the same JDK sends it once.
#
# Seen: `HttpURLConnection: 2 requests for 1 call`, `HttpClient: 1 request for 1 call`.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
command -v javac >/dev/null || { echo "needs a JDK 17 or newer, such as Debian's openjdk-17-jdk-headless"; exit 2; }
cat > Probe.java <<'JAVA'
import java.io.IOException;
import java.net.HttpURLConnection;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.concurrent.atomic.AtomicInteger;

class Probe {
  static final String BODY = "pay-once";
  static final AtomicInteger received = new AtomicInteger();

  /** Reads whole requests, and closes each connection without an answer, as a server that is restarted does. */
  static void serve(ServerSocket listener) {
    while (true) {
      try (Socket client = listener.accept()) {
        StringBuilder request = new StringBuilder();
        for (int b; !request.toString().endsWith(BODY) && (b = client.getInputStream().read()) >= 0; ) request.append((char) b);
        if (request.toString().startsWith("POST")) received.incrementAndGet();
      } catch (IOException e) {
        return;
      }
    }
  }

  static void byUrlConnection(URI uri) throws IOException {
    HttpURLConnection call = (HttpURLConnection) uri.toURL().openConnection();
    call.setRequestMethod("POST");
    call.setDoOutput(true);
    call.getOutputStream().write(BODY.getBytes());
    call.getResponseCode();
  }

  static void byClient(URI uri) throws IOException, InterruptedException {
    HttpRequest call = HttpRequest.newBuilder(uri).POST(HttpRequest.BodyPublishers.ofString(BODY)).build();
    HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build().send(call, HttpResponse.BodyHandlers.ofString());
  }

  interface Call {
    void make(URI uri) throws IOException, InterruptedException;
  }

  static int requests(String name, URI uri, Call call) throws InterruptedException {
    received.set(0);
    try {
      call.make(uri);
    } catch (IOException e) {
      System.out.println(name + ": " + e.getMessage());
    }
    System.out.println(name + ": " + received + " request(s) for 1 call");
    return received.get();
  }

  public static void main(String[] args) throws Exception {
    ServerSocket listener = new ServerSocket(0, 8, InetAddress.getByName("127.0.0.1"));
    Thread server = new Thread(() -> serve(listener));
    server.setDaemon(true);
    server.start();
    URI uri = URI.create("http://127.0.0.1:" + listener.getLocalPort() + "/");
    System.out.println("Java " + System.getProperty("java.version"));
    int old = requests("HttpURLConnection", uri, Probe::byUrlConnection);
    int current = requests("HttpClient", uri, Probe::byClient);
    System.exit(old == 2 && current == 1 ? 0 : 1);
  }
}
JAVA
javac Probe.java || exit 2
java -cp . Probe
