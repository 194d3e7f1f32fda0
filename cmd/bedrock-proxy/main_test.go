package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/explain"
)

func TestListen(t *testing.T) {
	for address, allowed := range map[string]bool{
		"127.0.0.1:0":             true,
		"localhost:0":             true,
		"":                        false,
		":0":                      false,
		"0.0.0.0:0":               false,
		"[::]:0":                  false,
		"[::ffff:0.0.0.0]:0":      false,
		"192.0.2.1:0":             false,
		"169.254.1.1:0":           false,
		"*:0":                     false,
		"example.com:0":           false,
		"localhost.example.com:0": false,
		"127.0.0.1":               false,
		"8484":                    false,
		"127.1:0":                 false,
	} {
		t.Run(address, func(t *testing.T) {
			listener, err := listen(address)
			if err != nil {
				if allowed {
					t.Error(err)
				} else if !strings.Contains(err.Error(), "-listen") {
					t.Errorf("error %v", err)
				}
				return
			}
			defer listener.Close()
			if !allowed || !listener.Addr().(*net.TCPAddr).IP.IsLoopback() {
				t.Errorf("it listens on %s", listener.Addr())
			}
		})
	}
}

func TestEndpoint(t *testing.T) {
	for endpoint, allowed := range map[string]bool{
		"https://gateway.example.com":                       true,
		"https://gateway.example.com:8443/bedrock":          true,
		"https://192.0.2.1":                                 true,
		"http://127.0.0.1:8000":                             true,
		"http://localhost:8000/x":                           true,
		"http://[::1]:8000":                                 true,
		"http://gateway.example.com":                        false,
		"http://192.0.2.1":                                  false,
		"ftp://gateway.example.com":                         false,
		"unix:///run/x":                                     false,
		"gateway.example.com":                               false,
		"gateway.example.com:443":                           false,
		"localhost:8000":                                    false,
		"//gateway.example.com":                             false,
		"https://":                                          false,
		"https://:443":                                      false,
		"https:///bedrock":                                  false,
		"https://me:" + callersOwn + "@gateway.example.com": false,
		"https://gateway.example.com?key=" + callersOwn:     false,
		"https://gateway.example.com#" + callersOwn:         false,
		"https://me:" + callersOwn + "@gateway example":     false,
	} {
		t.Run(endpoint, func(t *testing.T) {
			u, err := parseEndpoint(endpoint)
			switch {
			case allowed && (err != nil || u.String() != endpoint):
				t.Errorf("%v, %v", u, err)
			case !allowed && (err == nil || u != nil || !strings.Contains(err.Error(), "-endpoint")):
				t.Errorf("%v, %v", u, err)
			case !allowed && strings.Contains(err.Error(), callersOwn):
				t.Errorf("the error %v shows the password", err)
			}
		})
	}
	if u, err := parseEndpoint(""); u != nil || err != nil {
		t.Errorf("%v, %v", u, err)
	}
}

// A pipes is a listener in memory, for synctest.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p <- server
	return client, nil
}

// served starts the server in a bubble of synctest. Bedrock takes as long to answer
// as the path says, unless the caller goes away. stop is the first signal, and
// returns what serve does.
func served(t *testing.T) (listener pipes, client *http.Client, stop func() error) {
	t.Helper()
	handler := newProxy(newProvider(t, &source{}), "", nil, "", roundTripper(func(r *http.Request) (*http.Response, error) {
		takes, err := time.ParseDuration(strings.TrimPrefix(r.URL.Path, "/v1/"))
		if err != nil {
			return nil, err
		}
		if r.Body != nil {
			if body, err := io.ReadAll(r.Body); err != nil || string(body) != "{}" {
				return nil, fmt.Errorf("%q arrived: %w", body, err)
			}
		}
		select {
		case <-time.After(takes):
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"ok": true}`)), Request: r}, nil
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}))
	listener = make(pipes)
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- serve(ctx, listener, handler) }()
	transport := &http.Transport{DialContext: listener.dial}
	return listener, &http.Client{Transport: transport}, func() error {
		cancel()
		err := <-result
		transport.CloseIdleConnections()
		return err
	}
}

// After the first signal running requests have five seconds, and no longer.
func TestGrace(t *testing.T) {
	for _, test := range []struct {
		takes, stops time.Duration
		http2        bool
		served       bool
	}{
		{takes: 4 * time.Second, stops: 4 * time.Second, served: true},
		{takes: time.Hour, stops: 5 * time.Second, served: false},
		{takes: 4 * time.Second, stops: 4 * time.Second, http2: true, served: true},
		{takes: time.Hour, stops: 5 * time.Second, http2: true, served: false},
	} {
		t.Run(fmt.Sprintf("%v HTTP/2 %t", test.takes, test.http2), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, client, stop := served(t)
				if test.http2 {
					protocols := new(http.Protocols)
					protocols.SetUnencryptedHTTP2(true)
					client.Transport.(*http.Transport).Protocols = protocols
				}
				answered := make(chan error, 1)
				go func() {
					response, err := client.Get("http://localhost/v1/" + test.takes.String())
					if err == nil {
						_, err = io.ReadAll(response.Body)
						response.Body.Close()
					}
					answered <- err
				}()
				synctest.Wait()
				start := time.Now()
				if err := stop(); err != nil {
					t.Error(err)
				}
				// net/http looks every half second whether a request has ended.
				if took := time.Since(start); took < test.stops || took > test.stops+500*time.Millisecond {
					t.Errorf("it took %v to stop, want %v", took, test.stops)
				}
				if err := <-answered; (err == nil) != test.served {
					t.Errorf("the request: %v", err)
				}
			})
		})
	}
}

// Who sends no request is sent away, but a body and an answer may take long.
func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener, client, stop := served(t)
		for _, begun := range []string{"", "POST /v1/1s HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", "PRI * HTTP/2.0\r\n"} {
			conn, err := listener.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			io.WriteString(conn, begun)
			if answer, err := io.ReadAll(conn); err != nil {
				t.Errorf("%q, %v", answer, err)
			}
			if took := time.Since(start); took != 10*time.Second {
				t.Errorf("it waited %v for the rest of %q", took, begun)
			}
		}

		reader, writer := io.Pipe()
		go func() {
			io.WriteString(writer, "{")
			time.Sleep(3 * time.Hour)
			io.WriteString(writer, "}")
			writer.Close()
		}()
		response, err := client.Post("http://localhost/v1/3h", "application/json", reader)
		if err != nil {
			t.Fatal(err)
		}
		if body := read(t, response); body != `{"ok": true}` {
			t.Errorf("%s %s", response.Status, body)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// serve returns when it cannot listen any more.
func TestServeFails(t *testing.T) {
	listener, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	if err := serve(t.Context(), listener, http.NotFoundHandler()); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// program returns the program to run with args in an empty directory, where its
// config files would be, and with env besides.
func program(t *testing.T, env []string, args ...string) (command *exec.Cmd) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	command = exec.CommandContext(ctx, exe, args...)
	command.Dir = t.TempDir()
	command.Env = append(append(os.Environ(), isProgram+"=1", "AWS_CONFIG_FILE=config", "AWS_SHARED_CREDENTIALS_FILE=credentials"), env...)
	return command
}

// What cannot work is refused at the start, by name.
func TestProgramRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		args, env []string
		status    int
		says      string
	}{
		"no region":         {nil, nil, 1, "-region"},
		"a bad region":      {[]string{"-region", "US West"}, nil, 1, `"US West"`},
		"another address":   {[]string{"-region", region, "-listen", "0.0.0.0:0"}, nil, 1, "loopback"},
		"a bad endpoint":    {[]string{"-region", region, "-endpoint", "example.com"}, nil, 1, "-endpoint"},
		"a missing profile": {[]string{"-region", region, "-profile", "ghost"}, nil, 1, "ghost"},
		"a broken config":   {[]string{"-region", region}, []string{"AWS_CA_BUNDLE=" + filepath.Join("no", "such.pem")}, 1, "such.pem"},
		"an empty key":      {[]string{"-region", region}, []string{keyVariable + "="}, 1, keyVariable},
		"an argument":       {[]string{"-region", region, "us-east-1"}, nil, 2, `"us-east-1"`},
		"an unknown flag":   {[]string{"-port", "8484"}, nil, 2, "-port"},
	} {
		t.Run(name, func(t *testing.T) {
			output, err := program(t, test.env, append([]string{"-listen", "127.0.0.1:0"}, test.args...)...).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != test.status {
				t.Errorf("%v", err)
			}
			if lines := strings.Count(string(output), "\n"); lines < 1 || lines > 2 || !strings.Contains(string(output), test.says) {
				t.Errorf("it says %q", output)
			}
		})
	}
}

// An instance is the program at work.
type instance struct {
	*site
	command *exec.Cmd
	output  *bufio.Reader
	stderr  io.Closer // output is closed by it
}

// start starts the program with a profile that has no credentials yet. The first
// line of its output has been read.
func start(t *testing.T, endpoint string) *instance {
	t.Helper()
	p := &instance{command: program(t, []string{keyVariable + "=" + proxyKey},
		"-listen", "127.0.0.1:0", "-endpoint", endpoint, "-profile", "team")}
	p.write(t, "config", "[profile team]\nregion = "+region+"\n")
	stderr, err := p.command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.command.Process.Kill() })
	p.output, p.stderr = bufio.NewReader(stderr), stderr
	first, err := p.output.ReadString('\n')
	address := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(first)
	if address == "" || !strings.Contains(first, region) {
		t.Fatalf("it says %q, %v", first, err)
	}
	p.site = &site{url: address, client: &http.Transport{}}
	return p
}

// provide is what a tool that signs a person in does.
func (p *instance) provide(t *testing.T) {
	t.Helper()
	p.write(t, "credentials", fmt.Sprintf("[team]\naws_access_key_id = ASIAPROXY\naws_secret_access_key = %s\naws_session_token = %s\n", secretKey, session))
}

func (p *instance) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.command.Dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// signal sends a signal, and returns when the program listens no more.
func (p *instance) signal(t *testing.T, signal os.Signal) {
	t.Helper()
	if err := p.command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	for {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			return
		}
		conn.Close()
		time.Sleep(time.Millisecond)
	}
}

// slowBedrock says when a request has arrived and answers it once finish is closed.
func slowBedrock(t *testing.T) (url string, arrived, finish chan struct{}) {
	arrived, finish = make(chan struct{}, 1), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if _, err := service.Verify(token); err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		if r.URL.Path == "/model/slow/invoke" {
			arrived <- struct{}{}
			select {
			case <-finish:
			case <-r.Context().Done():
			}
		}
		ok(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, arrived, finish
}

// ask makes a request to slowBedrock and sends what came of it.
func (p *instance) ask(outcome chan<- string) {
	request, err := http.NewRequest("POST", p.url+"/model/slow/invoke", http.NoBody)
	if err != nil {
		outcome <- err.Error()
		return
	}
	request.Header.Set("X-Api-Key", proxyKey)
	response, err := p.client.RoundTrip(request)
	if err != nil {
		outcome <- err.Error()
		return
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	outcome <- fmt.Sprint(response.StatusCode, string(body), err)
}

// The program starts without credentials, serves once there are some, and lets a
// running request finish when it is told to end.
func TestProgram(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			bedrock, arrived, finish := slowBedrock(t)
			p := start(t, bedrock)
			failure(t, p.do(t, "GET", "/v1/models"), http.StatusUnauthorized)
			message := failure(t, p.do(t, "GET", "/v1/models", "X-Api-Key", proxyKey), http.StatusForbidden)
			if !strings.HasPrefix(message, "bedrock-proxy: no AWS credentials were found\nSet ") {
				t.Errorf("message %q", message)
			}
			p.provide(t)
			if response := p.do(t, "GET", "/v1/models", "X-Api-Key", proxyKey); response.StatusCode != http.StatusOK {
				t.Fatal(response.Status, read(t, response))
			}
			if runtime.GOOS == "windows" {
				return // where no process can send another a signal
			}

			outcome := make(chan string, 1)
			go p.ask(outcome)
			<-arrived
			p.signal(t, signal)
			close(finish)
			if got, want := <-outcome, `200{"ok": true}<nil>`; got != want {
				t.Errorf("the running request got %s", got)
			}
			rest, err := io.ReadAll(p.output)
			if err != nil {
				t.Error(err)
			}
			if err := p.command.Wait(); err != nil {
				t.Error(err)
			}
			for _, line := range []string{`GET "/v1/models" 401`, `GET "/v1/models" 403`, `GET "/v1/models" 200`, `POST "/model/slow/invoke" 200`} {
				if bytes.Count(rest, []byte(" bedrock-proxy: "+line)) != 1 {
					t.Errorf("no %s in the log:\n%s", line, rest)
				}
			}
			if bytes.Count(rest, []byte("\n")) != 4 {
				t.Errorf("the log:\n%s", rest)
			}
		})
	}
}

// Who is not signed in learns how to sign in with the program's profile.
func TestProgramSignIn(t *testing.T) {
	p := start(t, "http://localhost:1")
	p.write(t, "config", `[profile team]
region = `+region+`
sso_session = work
sso_account_id = 111122223333
sso_role_name = team
[sso-session work]
sso_region = `+region+`
sso_start_url = https://example.com/start
`)
	message := failure(t, p.do(t, "GET", "/v1/models", "X-Api-Key", proxyKey), http.StatusForbidden)
	if !strings.HasSuffix(message, "\nSign in with aws sso login --profile \"team\".") {
		t.Errorf("message %q", message)
	}
}

// Who sends a second signal does not want to wait.
func TestSecondSignal(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no process can send another a signal")
	}
	bedrock, arrived, _ := slowBedrock(t)
	p := start(t, bedrock)
	p.provide(t)
	go p.ask(make(chan string, 1))
	<-arrived
	p.signal(t, syscall.SIGTERM) // and not SIGINT, which programs in the background may be made to ignore
	ended := make(chan error, 1)
	go func() { ended <- p.command.Wait() }()
	for deadline := time.After(4 * time.Second); ; {
		p.command.Process.Signal(syscall.SIGTERM) // the first of these may come too early to be the second
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Error(err)
			}
			return
		case <-deadline:
			t.Fatal("it still runs")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Who started the program may stop reading its log.
func TestClosedLog(t *testing.T) {
	bedrock, _, _ := slowBedrock(t)
	p := start(t, bedrock)
	p.provide(t)
	p.stderr.Close()
	for range 3 {
		if response := p.do(t, "GET", "/v1/models", "X-Api-Key", proxyKey); response.StatusCode != http.StatusOK {
			t.Fatal(response.Status, read(t, response))
		}
	}
	if runtime.GOOS == "windows" {
		return // where no process can send another a signal
	}
	p.signal(t, syscall.SIGTERM)
	if err := p.command.Wait(); err != nil {
		t.Error(err)
	}
}

// -version and -h print to standard output, and nothing is started.
func TestPrints(t *testing.T) {
	for flag, want := range map[string][]string{
		"-version": {"bedrock-proxy ", " go1."},
		"-h":       {"Usage: bedrock-proxy ", keyVariable, "-region", "-profile", "-listen", "-endpoint", "-version", "127.0.0.1:8484"},
	} {
		t.Run(flag, func(t *testing.T) {
			command := program(t, []string{keyVariable + "="}, flag)
			var stderr strings.Builder
			command.Stderr = &stderr
			output, err := command.Output()
			if err != nil || stderr.Len() > 0 {
				t.Errorf("%v, and it says %q", err, stderr.String())
			}
			for _, want := range want {
				if !strings.Contains(string(output), want) {
					t.Errorf("no %q in %q", want, output)
				}
			}
		})
	}
}

// A renewal that failed is one line of the log.
func TestRenewalLog(t *testing.T) {
	logs.take()
	err := fmt.Errorf("%w: the session has expired\nsign in", bedrocktoken.ErrCredentials)
	logRenewal(err, "team")
	text := logs.take()
	want := "credentials not renewed: " + strings.ReplaceAll(explain.Error(err, "team"), "\n", " ") + "\n"
	if !strings.HasSuffix(text, want) || strings.Count(text, "\n") != 1 {
		t.Errorf("the log:\n%s", text)
	}
}

// The page names every flag and every path, and leads each base URL of AWS's to
// where it says.
func TestPage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "proxy.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for _, flag := range []string{"region", "profile", "listen", "endpoint", "version"} {
		if !strings.Contains(page, "| `-"+flag+"` |") {
			t.Errorf("no row for -%s", flag)
		}
	}
	for _, route := range routes {
		if !strings.Contains(page, "`"+route.prefix+"`") && !strings.Contains(page, "`"+route.prefix+"…`") {
			t.Errorf("no row for %s", route.prefix)
		}
	}
	rows := regexp.MustCompile("(?m)^\\| `https://([^`/]*)([^`]*)` \\| `http://127.0.0.1:8484([^`]*)`(?:, or (?:without `(/.*)`|`(/.*)`|(no path)))? \\|$").FindAllStringSubmatch(page, -1)
	if len(rows) != strings.Count(page, "| `https://") || len(rows) == 0 {
		t.Errorf("%d rows", len(rows))
	}
	for _, row := range rows {
		host, path := strings.Replace(row[1], "REGION", "%s", 1), row[2]
		// What a client of that base URL appends to it.
		for _, rest := range map[string][]string{
			"":           {"/model/x/converse"},
			"/v1":        {"/chat/completions", "/responses"},
			"/openai/v1": {"/chat/completions", "/responses"},
			"/anthropic": {"/v1/messages", "/v1/messages/count_tokens"},
		}[path] {
			bases := []string{row[3]}
			switch {
			case row[4] != "":
				bases = append(bases, strings.TrimSuffix(row[3], row[4]))
			case row[5] != "":
				bases = append(bases, row[5])
			case row[6] != "":
				bases = append(bases, "")
			}
			for _, base := range bases {
				route := routeOf(&url.URL{Path: base + rest})
				if route == nil || route.host != host || route.path+strings.TrimPrefix(base+rest, route.prefix) != path+rest {
					t.Errorf("%s of %s%s does not come from %s", rest, row[1], path, base)
				}
			}
		}
	}
}
