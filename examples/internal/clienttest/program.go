package clienttest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bedrocktoken/bedrocktoken/examples/internal/fakebedrock"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

const runMain = "BEDROCK_EXAMPLE_RUNS_MAIN"

// Main is what TestMain of an example calls: it runs the tests or, in a process
// that Exec started, the example's main function.
func Main(m *testing.M, main func()) {
	if os.Getenv(runMain) == "" {
		os.Exit(m.Run())
	}
	// As the AWS SDK's own HTTP client does.
	bundle, err := os.ReadFile(os.Getenv("AWS_CA_BUNDLE"))
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	http.DefaultTransport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots}
	main()
	os.Exit(0)
}

// A Program is an example's main function.
type Program struct {
	// Args are arguments besides -region and -endpoint.
	Args []string
	// Host is where the one request is sent without -endpoint, by default the
	// region's bedrock-runtime.
	Host string
	// Base is added to the server's URL to make -endpoint.
	Base string
	// Path is what the request is made to.
	Path string
	// Provide makes the program find keys, by default in the environment.
	Provide func(t *testing.T, keys *Keys)
}

// Run runs the program and checks its request and its output, with each way to
// say where the request goes: the profile's region alone, -region and -endpoint.
func (p Program) Run(t *testing.T) {
	t.Run("profile", func(t *testing.T) {
		p.run(t, func(*fakebedrock.Server) []string {
			awstest.WriteConfig(t, "[default]\nregion = "+Region+"\n")
			return nil
		})
	})
	t.Run("region", func(t *testing.T) {
		p.run(t, func(*fakebedrock.Server) []string {
			t.Setenv("AWS_REGION", "eu-west-3")
			return []string{"-region", Region}
		})
	})
	t.Run("endpoint", func(t *testing.T) {
		p.run(t, func(server *fakebedrock.Server) []string {
			t.Setenv("AWS_REGION", Region)
			return []string{"-endpoint", server.URL + p.Base}
		})
	})
}

// run runs the program with the arguments that prepare returns and with its own.
func (p Program) run(t *testing.T, prepare func(*fakebedrock.Server) []string) {
	Isolate(t)
	keys := &Keys{lifetime: time.Hour}
	server := fakebedrock.New(t, verify.Service{Region: Region, Secret: keys.Secret})
	if p.Provide != nil {
		p.Provide(t, keys)
	} else {
		keys.Setenv(t)
	}
	host := p.Host
	if host == "" {
		host = "bedrock-runtime." + Region + ".amazonaws.com"
	}
	args := append(prepare(server), p.Args...)
	answer, err := Exec(t, server, []string{host}, args...)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := answer, fakebedrock.Answer+"\n"; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	requests := server.Requests()
	if len(requests) != 1 {
		t.Errorf("%d requests were sent, want 1", len(requests))
	}
	for _, request := range requests {
		checkRequest(t, request, keys)
		if request.Path != p.Path {
			t.Errorf("a request was made to %s, want %s", request.Path, p.Path)
		}
	}
}

// Exec runs the main function that the test's package gave to Main in a process
// of its own and returns what it writes to standard output. That process reaches
// server at its URL and, through a proxy, at https addresses of hosts; it trusts
// no other host.
func Exec(t *testing.T, server *fakebedrock.Server, hosts []string, args ...string) (string, error) {
	t.Helper()
	certificate := awstest.Certificate(t, hosts...)
	var bundle []byte
	for _, der := range [][]byte{certificate.Certificate[0], server.Certificate.Raw} {
		bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, bundle, 0o600); err != nil {
		t.Fatal(err)
	}

	var stdout, stderr strings.Builder
	command := exec.CommandContext(t.Context(), os.Args[0], args...)
	command.Env = append(os.Environ(), runMain+"=1", "AWS_CA_BUNDLE="+file, "HTTPS_PROXY="+newProxy(t, server, certificate),
		"GORACE=atexit_sleep_ms=0") // else the race detector waits a second
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return stdout.String(), err
}

// newProxy starts an HTTP proxy and returns its URL. Whatever host is asked for,
// it connects to one that has certificate and passes requests on to server.
func newProxy(t *testing.T, server *fakebedrock.Server, certificate tls.Certificate) string {
	t.Helper()
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	host := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: server.Client.Transport,
	})
	host.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	host.StartTLS()
	t.Cleanup(host.Close)

	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		up, err := net.Dial("tcp", host.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer up.Close()
		down, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer down.Close()
		io.WriteString(down, "HTTP/1.1 200 OK\r\n\r\n")
		go io.Copy(up, down)
		io.Copy(down, up)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}
