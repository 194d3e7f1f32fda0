package main

import (
	"bufio"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

// isProgram in the environment makes this binary the program itself.
const isProgram = "BEDROCK_PROXY_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(isProgram) != "" {
		main()
		return
	}
	os.Exit(func() int {
		home, err := os.MkdirTemp("", "proxy")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(home)
		defer awstest.Isolate(home, "AWS_", "HTTP_", "HTTPS_", "NO_", "XDG_", "BEDROCK_")()
		log.SetOutput(io.Discard) // as the program does
		return m.Run()
	}())
}

// program returns the program to run with args in an empty directory, where its
// config files would be, and with env besides.
func program(t *testing.T, env []string, args ...string) (command *exec.Cmd) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	command = exec.CommandContext(ctx, must(os.Executable()), args...)
	command.Dir = t.TempDir()
	command.Env = append(append(os.Environ(), isProgram+"=1", "HOME="+command.Dir, "USERPROFILE="+command.Dir,
		"AWS_CONFIG_FILE=config", "AWS_SHARED_CREDENTIALS_FILE=credentials"), env...)
	return command
}

// -version and -h print to standard output, and nothing is started.
func TestPrints(t *testing.T) {
	for flag, want := range map[string][]string{
		"-version": {"bedrock-proxy ", " go1."},
		"-h": {"Usage: bedrock-proxy ", "Forwards requests on loopback to Amazon Bedrock", keyVariable, "-region", "-profile", "-listen", "-endpoint", "-version", "127.0.0.1:8484",
			"https://bedrock-runtime-fips.", "\nFlags:\n", "/v1/messages ", "https://bedrock-mantle.REGION.api.aws/anthropic/v1/messages\n"},
	} {
		command := program(t, []string{keyVariable + "="}, flag)
		var stderr strings.Builder
		command.Stderr = &stderr
		output, err := command.Output()
		if err != nil || stderr.Len() > 0 {
			t.Errorf("%v, and it says %q", err, stderr.String())
		}
		for _, want := range want {
			if !strings.Contains(string(output), want) {
				t.Errorf("%s: no %q in\n%s", flag, want, output)
			}
		}
	}
}

// What cannot work is refused at the start, with a line that says what is wrong and
// one that says what to do.
func TestProgramRefuses(t *testing.T) {
	taken := must(net.Listen("tcp", "127.0.0.1:0"))
	defer taken.Close()
	const inRegion = "-region=" + region
	for name, test := range map[string]struct {
		args, env  []string
		status     int
		says, does string
	}{
		"no region":         {nil, nil, 1, "no region is set", "-region"},
		"a bad region":      {[]string{"-region", "US West"}, nil, 2, `"US West"`, "region"},
		"a bad AWS_REGION":  {nil, []string{"AWS_REGION=US West"}, 1, `"US West"`, "region"},
		"another address":   {[]string{inRegion, "-listen", "0.0.0.0:0"}, nil, 2, `-listen "0.0.0.0:0": others`, "Give a loopback address"},
		"no port":           {[]string{inRegion, "-listen", "127.0.0.1"}, nil, 2, "-listen: address 127.0.0.1: missing port", "Give host and port"},
		"a port taken":      {[]string{inRegion, "-listen", taken.Addr().String()}, nil, 1, taken.Addr().String(), "Give another -listen, such as "},
		"a bad endpoint":    {[]string{inRegion, "-endpoint", "example.com"}, nil, 2, "-endpoint is not a URL", "https://"},
		"an open endpoint":  {[]string{inRegion, "-endpoint", "http://example.com"}, nil, 2, `-endpoint "http://example.com"`, "https://"},
		"a missing profile": {[]string{inRegion, "-profile", "ghost"}, nil, 1, `no profile "ghost"`, "-profile"},
		"a broken config":   {[]string{inRegion}, []string{"AWS_CA_BUNDLE=" + filepath.Join("no", "such.pem")}, 1, "such.pem", "AWS_CA_BUNDLE"},
		"an empty key":      {[]string{inRegion}, []string{keyVariable + "="}, 1, keyVariable + " is empty", "unset it"},
		"an argument":       {[]string{inRegion, "us-east-1"}, nil, 2, `unexpected argument "us-east-1"`, "see bedrock-proxy -h."},
		"an unknown flag":   {[]string{"-port", "8484"}, nil, 2, "-port", "See bedrock-proxy -h."},
	} {
		t.Run(name, func(t *testing.T) {
			output, err := program(t, test.env, append([]string{"-listen=127.0.0.1:0"}, test.args...)...).CombinedOutput()
			if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != test.status {
				t.Errorf("%v, want status %d", err, test.status)
			}
			lines := strings.SplitAfter(string(output), "\n")
			if len(lines) != 3 || !strings.HasPrefix(lines[0], "bedrock-proxy: ") || !strings.Contains(lines[0], test.says) || !strings.Contains(lines[1], test.does) {
				t.Errorf("it says:\n%s", output)
			}
		})
	}
}

func TestAddress(t *testing.T) {
	for address, allowed := range map[string]bool{
		"127.0.0.1:0": true, "localhost:0": true, "[::1]:0": true,
		"": false, ":0": false, "0.0.0.0:0": false, "[::]:0": false, "[::ffff:0.0.0.0]:0": false, "192.0.2.1:0": false,
		"*:0": false, "localhost.example.com:0": false, "127.0.0.1": false, "8484": false, "127.1:0": false,
	} {
		if err := checkAddress(address); (err == nil) != allowed {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestEndpoint(t *testing.T) {
	for _, allowed := range []string{"https://gateway.example.com:8443/bedrock", "http://127.0.0.1:8000", "http://localhost:8000/x"} {
		if u, err := parseEndpoint(allowed); err != nil || u.String() != allowed {
			t.Errorf("%s: %v, %v", allowed, u, err)
		}
	}
	for _, refused := range []string{
		"http://192.0.2.1", "ftp://gateway.example.com", "gateway.example.com:443", "localhost:8000", "//gateway.example.com", "https://:443", "https:///bedrock",
		"https://me:" + callersOwn + "@gateway.example.com", "https://me:" + callersOwn + "@gateway example",
		"https://gateway.example.com?key=" + callersOwn, "https://gateway.example.com#" + callersOwn,
	} {
		if u, err := parseEndpoint(refused); err == nil || u != nil || strings.Contains(err.Error(), callersOwn) {
			t.Errorf("%s: %v, %v", refused, u, err)
		}
	}
}

// An instance is the program at work.
type instance struct {
	*site
	command *exec.Cmd
	output  *bufio.Reader
	stderr  io.Closer // output is closed by it
}

// Files of an instance, by name.
type files map[string]string

// signedIn is what a tool writes that signs a person in.
var signedIn = files{"credentials": "[team]\naws_access_key_id = ASIAPROXY\naws_secret_access_key = " + secretKey + "\naws_session_token = " + session + "\n"}

// start starts the program with a key and the profile team. The first line of its
// output has been read.
func start(t *testing.T, env []string, has files, args ...string) *instance {
	t.Helper()
	p := &instance{command: program(t, append(env, keyVariable+"="+proxyKey), append(args, "-listen=127.0.0.1:0", "-profile=team")...)}
	p.write(t, files{"config": "[profile team]\nregion = " + region + "\n" + has["more config"]})
	p.write(t, has)
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
	serves := " for Bedrock in " + region + "\n"
	if i := slices.Index(args, "-endpoint"); i >= 0 {
		serves = " for " + args[i+1] + ", with tokens for " + region + "\n"
	}
	if address == "" || !strings.HasSuffix(first, serves) {
		t.Fatalf("it says %q, %v", first, err)
	}
	p.site = &site{url: address, client: &http.Transport{}}
	return p
}

func (p *instance) write(t *testing.T, has files) {
	t.Helper()
	for name, text := range has {
		file := filepath.Join(p.command.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// call makes a request with the key of the program.
func (p *instance) call(t *testing.T, path string) *http.Response {
	t.Helper()
	return p.do(t, "POST", path, "X-Api-Key", proxyKey)
}

// end sends the first signal and returns what the program writes before it ends.
func (p *instance) end(t *testing.T, signal os.Signal) string {
	t.Helper()
	if runtime.GOOS == "windows" { // where no process can send another a signal
		signal = os.Kill
	}
	if err := p.command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(p.output)
	if err := errors.Join(err, p.command.Wait()); err != nil && signal != os.Kill {
		t.Error(err)
	}
	return string(text)
}

// slowBedrock verifies tokens. It says when a request for /model/slow has arrived,
// and answers it once finish is closed.
func slowBedrock(t *testing.T) (url string, arrived, finish chan struct{}) {
	arrived, finish = make(chan struct{}, 1), make(chan struct{})
	server := httptest.NewServer(verified(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/model/slow/") {
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

// The program starts without credentials, serves once there are some, and lets a
// running request finish when it is told to end.
func TestProgram(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			bedrock, arrived, finish := slowBedrock(t)
			p := start(t, nil, nil, "-endpoint", bedrock)
			errorOf(t, p.do(t, "GET", "/v1/models"), http.StatusUnauthorized)
			errorOf(t, p.call(t, "/v1/models"), http.StatusForbidden)
			p.write(t, signedIn)
			for begun := time.Now(); ; time.Sleep(100 * time.Millisecond) { // for an error stands for some seconds
				if response := p.call(t, "/v1/responses"); response.StatusCode == http.StatusOK {
					break
				} else if time.Since(begun) > 10*time.Second {
					t.Fatal(response.Status, read(t, response))
				}
			}

			if runtime.GOOS == "windows" {
				return // where no process can send another a signal
			}
			text := make(chan string)
			go func() {
				<-arrived
				go func() { text <- p.end(t, signal) }()
				for err := error(nil); err == nil; { // until it listens no more
					var conn net.Conn
					if conn, err = net.Dial("tcp", strings.TrimPrefix(p.url, "http://")); err == nil {
						conn.Close()
					}
				}
				close(finish)
			}()
			response := p.call(t, "/model/slow/invoke")
			if body := read(t, response); response.StatusCode != http.StatusOK || body != `{"ok": true}` {
				t.Errorf("the running request got %s %s", response.Status, body)
			}
			log := <-text
			for _, line := range []string{`GET "/v1/models" 401`, `POST "/v1/models" 403`, `POST "/v1/responses" 200`, `POST "/model/slow/invoke" 200`} {
				if strings.Count(log, " bedrock-proxy: "+line) != 1 {
					t.Errorf("no %s in the log:\n%s", line, log)
				}
			}
		})
	}
}

// Who sends a second signal does not want to wait.
func TestSecondSignal(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no process can send another a signal")
	}
	bedrock, arrived, _ := slowBedrock(t)
	p := start(t, nil, signedIn, "-endpoint", bedrock)
	request := must(http.NewRequest("POST", p.url+"/model/slow/invoke", nil))
	request.Header.Set("X-Api-Key", proxyKey)
	go p.client.RoundTrip(request)
	<-arrived
	ended := make(chan error, 1)
	go func() { ended <- p.command.Wait() }()
	for deadline := time.After(grace - time.Second); ; {
		p.command.Process.Signal(syscall.SIGTERM) // and not SIGINT, which programs in the background may be made to ignore
		select {
		case err := <-ended:
			if _, ok := err.(*exec.ExitError); !ok {
				t.Error(err)
			}
			return
		case <-deadline:
			t.Fatal("it still runs")
		case <-time.After(10 * time.Millisecond): // two signals at once may be one
		}
	}
}

// Who started the program may stop reading its log.
func TestClosedLog(t *testing.T) {
	bedrock, _, _ := slowBedrock(t)
	p := start(t, nil, signedIn, "-endpoint", bedrock)
	p.stderr.Close()
	for range 3 {
		if response := p.call(t, "/v1/models"); response.StatusCode != http.StatusOK {
			t.Fatal(response.Status, read(t, response))
		}
	}
	if runtime.GOOS != "windows" {
		p.command.Process.Signal(syscall.SIGTERM)
		if err := p.command.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// The log has nothing of an answer that is longer than it says, which net/http writes
// to the log of the process.
func TestLogOfLongAnswer(t *testing.T) {
	p := start(t, nil, signedIn, "-endpoint", answerWith(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"+callersOwn))
	if body := read(t, p.call(t, "/v1/responses")); body != "{}" {
		t.Errorf("the answer %s", body)
	}
	time.Sleep(100 * time.Millisecond) // in which it would be written
	if text := p.end(t, syscall.SIGTERM); strings.Contains(text, callersOwn) || strings.Count(text, "\n") != 1 {
		t.Errorf("the log:\n%s", text)
	}
}

// Bedrock is called with the certificate authorities that credentials are retrieved with.
func TestCertificateAuthority(t *testing.T) {
	bedrock := httptest.NewTLSServer(verified(t, ok))
	defer bedrock.Close()
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: bedrock.Certificate().Raw})
	p := start(t, []string{"AWS_CA_BUNDLE=ca.pem"}, files{"ca.pem": string(authority), "credentials": signedIn["credentials"]}, "-endpoint", bedrock.URL)
	if response := p.call(t, "/v1/responses"); response.StatusCode != http.StatusOK {
		t.Error(response.Status, read(t, response))
	}
}

// Callers of a program at work learn why it has no credentials, and what to do
// that helps while it runs.
func TestProgramHasNoCredentials(t *testing.T) {
	answer := func(status int) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if status == http.StatusUnauthorized {
				w.Header().Set("X-Amzn-Errortype", "UnauthorizedException")
			}
			w.WriteHeader(status)
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	const sso = "sso_session = work\nsso_account_id = 111122223333\nsso_role_name = team\n[sso-session work]\nsso_region = " + region + "\nsso_start_url = https://example.com/start\n"
	token := filepath.Base(must(ssocreds.StandardCachedTokenFilepath("work")))
	inSSO := files{"more config": sso, filepath.Join(".aws", "sso", "cache", token): fmt.Sprintf(`{"accessToken": %q, "expiresAt": "2999-01-01T00:00:00Z"}`, callersOwn)}
	for name, test := range map[string]struct {
		env     []string
		has     files
		status  int
		message string
	}{
		"nowhere":          {nil, nil, 403, "no AWS credentials were found\nSign in with aws login or aws sso login, or write keys into the shared credentials file; or restart bedrock-proxy with "},
		"not signed in":    {nil, files{"more config": sso}, 403, "\nSign in with aws sso login --profile \"team\"."},
		"SSO refuses":      {[]string{"AWS_ENDPOINT_URL_SSO=" + answer(401)}, inSSO, 403, "\nSign in with aws sso login --profile \"team\"."},
		"SSO in an outage": {[]string{"AWS_MAX_ATTEMPTS=1", "AWS_ENDPOINT_URL_SSO=" + answer(503)}, inSSO, 503, "SSO answered with status 503 Service Unavailable\nTry again later."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, test.env, test.has)
			if message := errorOf(t, p.call(t, "/v1/models"), test.status); !strings.Contains(message, test.message) {
				t.Errorf("message %q", message)
			}
		})
	}
}

// A company's proxy that refuses is named.
func TestProgramBehindProxy(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, callersOwn, http.StatusProxyAuthRequired)
	}))
	defer proxy.Close()
	address := strings.TrimPrefix(proxy.URL, "http://")
	p := start(t, []string{"HTTPS_PROXY=http://me:" + callersOwn + "@" + address}, signedIn)
	want := "bedrock-proxy: bedrock-mantle." + region + ".api.aws cannot be reached: proxyconnect tcp: " + address + " answered with status 407\nCheck the network, HTTPS_PROXY"
	if message := errorOf(t, p.call(t, "/v1/models"), http.StatusBadGateway); !strings.HasPrefix(message, want) {
		t.Errorf("message %q", message)
	}
}

// inMemory starts the server in a bubble of synctest. stop is the first signal, and
// returns what serve does.
func inMemory(t *testing.T, handler http.Handler) (listener awstest.Listener, client *http.Client, stop func() error) {
	t.Helper()
	listener = make(awstest.Listener)
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- serve(ctx, listener, handler) }()
	transport := &http.Transport{DialContext: listener.DialContext}
	return listener, &http.Client{Transport: transport}, func() error {
		cancel()
		err := <-result
		transport.CloseIdleConnections()
		return err
	}
}

// takes answers after as long as the path says, unless the caller goes away.
func takes(w http.ResponseWriter, r *http.Request) {
	life, _ := time.ParseDuration(strings.TrimPrefix(r.URL.Path, "/"))
	io.Copy(io.Discard, r.Body)
	select {
	case <-time.After(life):
		ok(w, r)
	case <-r.Context().Done():
	}
}

// After the first signal running requests have five seconds, and no longer.
func TestGrace(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for life, stops := range map[string]time.Duration{"4s": 4 * time.Second, "1h": 5 * time.Second} {
			synctest.Test(t, func(t *testing.T) {
				_, client, stop := inMemory(t, http.HandlerFunc(takes))
				if http2 {
					overHTTP2(client.Transport.(*http.Transport))
				}
				answered := make(chan error, 1)
				go func() {
					response, err := client.Get("http://localhost/" + life)
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
				if took := time.Since(start); took < stops || took > stops+500*time.Millisecond {
					t.Errorf("%s, HTTP/2 %t: it took %v to stop", life, http2, took)
				}
				if err := <-answered; (err == nil) != (life == "4s") {
					t.Errorf("%s, HTTP/2 %t: the request: %v", life, http2, err)
				}
			})
		}
	}
}

// Who sends no request, or no other, is sent away.
func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener, _, stop := inMemory(t, http.HandlerFunc(takes))
		for begun, want := range map[string]time.Duration{
			"": 10 * time.Second,
			"POST /1s HTTP/1.1\r\nHost: localhost\r\nX-Slow: ": 10 * time.Second,
			"PRI * HTTP/2.0\r\n":                          10 * time.Second,
			"GET /0s HTTP/1.1\r\nHost: localhost\r\n\r\n": 2 * time.Minute,
		} {
			conn := must(listener.DialContext(t.Context(), "", ""))
			start := time.Now()
			io.WriteString(conn, begun)
			if answer, err := io.ReadAll(conn); err != nil {
				t.Errorf("%q, %v", answer, err)
			}
			if took := time.Since(start); took != want {
				t.Errorf("it waited %v after %q", took, begun)
			}
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

// serve returns when it cannot listen any more.
func TestServeFails(t *testing.T) {
	listener := must(net.Listen("tcp", "127.0.0.1:0"))
	listener.Close()
	if err := serve(t.Context(), listener, http.NotFoundHandler()); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
