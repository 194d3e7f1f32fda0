package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go/auth/bearer"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

const (
	controlPlane = "bedrock.us-east-1.amazonaws.com"
	runtimeHost  = "bedrock-runtime.us-east-1.amazonaws.com"
	mantle       = "bedrock-mantle.us-east-1.api.aws"
)

var theCalls = []string{
	"GET " + controlPlane + "/foundation-models",
	"POST " + runtimeHost + "/model/bedrock-token-check/converse",
	"GET " + mantle + "/v1/models",
}

// A bedrock plays the three endpoints. What it says of a token that it refuses can
// be given.
type bedrock struct {
	service verify.Service
	message string
	calls   []string
}

func newBedrock(message string) *bedrock {
	known := func(id, _ string) (string, error) {
		if id != accessKeyID {
			return "", errors.New("the security token included in the request is invalid")
		}
		return secretKey, nil
	}
	return &bedrock{service: verify.Service{Region: "us-east-1", Secret: known}, message: message}
}

func (b *bedrock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := r.Method + " " + r.Host + r.URL.Path
	b.calls = append(b.calls, call)
	w.Header().Set("Date", b.service.Now().UTC().Format(http.TimeFormat))
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	_, err := b.service.Verify(token)
	switch {
	case err != nil && r.Host == mantle:
		w.WriteHeader(http.StatusUnauthorized)
		json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"message": cmp.Or(b.message, err.Error())}})
	case err != nil:
		w.WriteHeader(http.StatusForbidden)
		json.NewEncoder(w).Encode(map[string]string{"Message": cmp.Or(b.message, err.Error())})
	case !slices.Contains(theCalls, call):
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodPost:
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"message": "The provided model identifier is invalid."}`)
	default:
		io.WriteString(w, "{}")
	}
}

// served is a RoundTripper that a handler answers.
type served struct{ http.Handler }

func (s served) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Host = r.URL.Host
	recorder := httptest.NewRecorder()
	s.ServeHTTP(recorder, r)
	return recorder.Result(), nil
}

// silent never answers.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

func checked(t *testing.T, secretKey string) (*bedrocktoken.Provider, bearer.Token) {
	t.Helper()
	provider, err := bedrocktoken.NewProvider(t.Context(), bedrocktoken.WithRegion("us-east-1"),
		bedrocktoken.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(accessKeyID, secretKey, "")))
	if err != nil {
		t.Fatal(err)
	}
	token, err := provider.RetrieveBearerToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return provider, token
}

// runCheck returns what check writes, and what it reports.
func runCheck(t *testing.T, secretKey string, base http.RoundTripper) (output string, accepted bool) {
	t.Helper()
	provider, token := checked(t, secretKey)
	var written strings.Builder
	accepted, err := check(t.Context(), &written, provider, token, base)
	if err != nil {
		t.Error(err)
	}
	if strings.Contains(written.String(), "bedrock-api-key-") {
		t.Fatal("a token is printed")
	}
	return written.String(), accepted
}

// checkLines checks how each line of output begins.
func checkLines(t *testing.T, output string, starts ...string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(output, "\n"), "\n")
	if len(lines) != len(starts) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(starts), output)
	}
	for i, start := range starts {
		if !strings.HasPrefix(lines[i], start) {
			t.Errorf("line %d is %q, want %q", i+1, lines[i], start)
		}
	}
}

func TestCheckAccepts(t *testing.T) {
	bedrock := newBedrock("")
	before := time.Now().Add(12 * time.Hour).Truncate(time.Second)
	output, accepted := runCheck(t, secretKey, served{bedrock})
	if !accepted {
		t.Error("not accepted")
	}
	first, rest, _ := strings.Cut(output, "\n")
	checkLines(t, rest,
		"control plane, "+controlPlane+": accepted",
		"runtime, "+runtimeHost+": accepted",
		"Mantle, "+mantle+": accepted")
	until, found := strings.CutPrefix(first, "The token is for us-east-1, signed with the access key "+accessKeyID+", and expires at ")
	expires, err := time.Parse(time.RFC3339+".", until)
	if !found || err != nil || expires.Before(before) || time.Until(expires) > 12*time.Hour {
		t.Errorf("the first line is %q, error %v", first, err)
	}
	if strings.Count(rest, "\n") != 3 || strings.Count(rest, ": accepted\n") != 3 {
		t.Errorf("more is said:\n%s", rest)
	}
	if !slices.Equal(bedrock.calls, theCalls) {
		t.Errorf("calls %q, want %q", bedrock.calls, theCalls)
	}
}

func TestCheckNamesTheCauseOfARefusal(t *testing.T) {
	at := func(ahead time.Duration) *bedrock {
		b := newBedrock("")
		b.service.ClockAhead = ahead
		return b
	}
	saying := func(message string) *bedrock {
		b := newBedrock(message)
		b.service.Region = "eu-west-1" // which refuses all
		return b
	}
	for name, test := range map[string]struct {
		bedrock *bedrock
		secret  string
		want    int
	}{
		"no permission":      {saying("User: arn:aws:iam::123456789012:user/me is not authorized to perform: bedrock:CallWithBearerToken on resource: *"), secretKey, noPermission},
		"denied":             {saying("User: x is not authorized to perform: bedrock:CallWithBearerToken with an explicit deny in a service control policy"), secretKey, denied},
		"invalid format":     {saying("Invalid API Key format: Must start with pre-defined prefix"), secretKey, noPermission},
		"valid API key":      {saying("Authentication failed: Please make sure your API Key is valid."), secretKey, noPermission},
		"expired":            {saying("The security token included in the request is expired"), secretKey, expired},
		"not yet valid":      {saying("Signature not yet current"), secretKey, wrongClock},
		"clock ahead":        {at(-time.Hour), secretKey, wrongClock},
		"clock far behind":   {at(13 * time.Hour), secretKey, wrongClock},
		"unknown key":        {saying("The security token included in the request is invalid."), secretKey, unknownKey},
		"invalid token":      {saying("Invalid bearer token"), secretKey, unknownKey},
		"wrong secret":       {newBedrock("The request signature we calculated does not match"), "another/secret", wrongSecret},
		"verifier's wording": {newBedrock(""), "another/secret", wrongSecret},
		"anything else":      {saying("no"), secretKey, unknown},
	} {
		t.Run(name, func(t *testing.T) {
			output, accepted := runCheck(t, test.secret, served{test.bedrock})
			if accepted {
				t.Error("accepted")
			}
			why := causes[test.want]
			likely, remedy := "  likely cause: "+why.likely, "  remedy: "+why.remedy
			checkLines(t, output, "The token is for us-east-1",
				"control plane, "+controlPlane+": refused: 403 Forbidden \"", likely, remedy,
				"runtime, "+runtimeHost+": refused: 403 Forbidden \"", likely, remedy,
				"Mantle, "+mantle+": refused: 401 Unauthorized \"", likely, remedy)
			if len(test.bedrock.calls) != 3 {
				t.Errorf("%d calls, want 3", len(test.bedrock.calls))
			}
		})
	}
}

// Not each answer but 2xx is a refusal of the token, and not each is by Bedrock.
func TestCheckVerdicts(t *testing.T) {
	const echo = "(the server puts the token here)"
	const none = -1
	for name, test := range map[string]struct {
		status    int
		body      string
		get, post string // what is said of either call
		cause     int
	}{
		"no permission for the call": {403, `{"Message": "User: x is not authorized to perform: bedrock:ListFoundationModels because no policy allows it"}`,
			"accepted, but the identity lacks the permission bedrock:ListFoundationModels\n", "accepted\n", none},
		"nor on Mantle": {401, `{"error": {"message": "User: x is not authorized to perform: bedrock-mantle:ListModels"}}`,
			"accepted, but the identity lacks the permission bedrock-mantle:ListModels\n", "accepted\n", none},
		"not found":            {404, `{"message": "No such thing"}`, "accepted, but the call failed: 404 Not Found \"No such thing\"\n", "accepted\n", none},
		"out of order":         {503, `{"message": "x"}`, "no verdict: 503 Service Unavailable \"x\"\n", "no verdict: 503 Service Unavailable \"x\"\n", outOfOrder},
		"throttled":            {429, `{"message": "x"}`, "no verdict: 429 Too Many Requests \"x\"\n", "no verdict: 429 Too Many Requests \"x\"\n", outOfOrder},
		"a proxy refuses":      {403, "<html>\x1b", "no verdict: 403 Forbidden \"<html>\\x1b\"\n", "no verdict: 403 Forbidden \"<html>\\x1b\"\n", notBedrock},
		"a proxy finds none":   {404, "<html>", "no verdict: 404 Not Found \"<html>\"\n", "no verdict: 404 Not Found \"<html>\"\n", notBedrock},
		"token echoed":         {403, `{"message": "Invalid: ` + echo + `"}`, "refused: 403 Forbidden \"Invalid: (the token)\"\n", "refused: 403 Forbidden \"Invalid: (the token)\"\n", unknown},
		"token echoed in HTML": {403, "<b>" + echo + "</b>", "no verdict: 403 Forbidden \"<b>(the token)", "no verdict: 403 Forbidden \"<b>(the token)", notBedrock},
		"long message":         {403, `{"message": "` + strings.Repeat("x", 1000) + `"}`, "refused: 403 Forbidden \"" + strings.Repeat("x", 300) + "\"\n", "refused: 403 Forbidden \"" + strings.Repeat("x", 300) + "\"\n", unknown},
	} {
		t.Run(name, func(t *testing.T) {
			output, accepted := runCheck(t, secretKey, served{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
				w.WriteHeader(test.status)
				io.WriteString(w, strings.ReplaceAll(test.body, echo, token))
			})})
			if accepted != (test.cause == none) {
				t.Errorf("accepted is %v", accepted)
			}
			for _, want := range []string{controlPlane + ": " + test.get, runtimeHost + ": " + test.post, mantle + ": " + test.get} {
				if !strings.Contains(output, ", "+want) {
					t.Errorf("%q is not in:\n%s", want, output)
				}
			}
			if test.cause == none && strings.Contains(output, "likely cause") || test.cause != none && strings.Count(output, causes[test.cause].likely) != 3 {
				t.Errorf("another cause is named:\n%s", output)
			}
		})
	}
}

func TestCheckNamesTheCauseOfNoAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want int
		says string
	}{
		"no host":     {&net.DNSError{Err: "no such host", Name: controlPlane, IsNotFound: true}, unreachable, "no answer: lookup " + controlPlane + ": no such host\n"},
		"time-out":    {context.DeadlineExceeded, unreachable, "no answer: context deadline exceeded\n"},
		"foreign":     {&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, foreignCertificate, "no answer: tls: "},
		"clock":       {&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}}, wrongClock, "no answer: tls: "},
		"credentials": {bedrocktoken.ErrCredentials, expired, "no answer: no valid credentials\n"},
	} {
		t.Run(name, func(t *testing.T) {
			output, accepted := runCheck(t, secretKey, failing{test.err})
			if accepted || strings.Count(output, ": "+test.says) != 3 ||
				strings.Count(output, "  likely cause: "+causes[test.want].likely+"\n  remedy: "+causes[test.want].remedy+"\n") != 3 {
				t.Errorf("accepted is %v, output:\n%s", accepted, output)
			}
		})
	}
}

// One endpoint that refuses is a failure, and does not keep the others from being
// tried.
func TestCheckTriesAllEndpoints(t *testing.T) {
	for _, host := range []string{controlPlane, runtimeHost, mantle} {
		bedrock := newBedrock("")
		output, accepted := runCheck(t, secretKey, served{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Host == host {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			bedrock.ServeHTTP(w, r)
		})})
		if accepted || strings.Count(output, ": accepted\n") != 2 || !strings.Contains(output, host+": no verdict: 403") {
			t.Errorf("%s: accepted is %v, output:\n%s", host, accepted, output)
		}
	}
}

func TestCheckMentionsTheVariable(t *testing.T) {
	t.Setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-stale")
	output, accepted := runCheck(t, secretKey, served{newBedrock("")})
	if !accepted || strings.Count(output, "AWS_BEARER_TOKEN_BEDROCK is set.") != 1 || strings.Contains(output, "stale") {
		t.Errorf("accepted is %v, output:\n%s", accepted, output)
	}
}

// An endpoint that does not answer costs 20 seconds, and the others are tried.
func TestCheckTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		output, accepted := runCheck(t, secretKey, silent{})
		if took := time.Since(began); accepted || took != time.Minute || strings.Count(output, ": no answer: ") != 3 || strings.Count(output, causes[unreachable].likely) != 3 {
			t.Errorf("after %v: accepted is %v, output:\n%s", took, accepted, output)
		}
	})
}

// Somebody who waits sees what has been found out so far.
func TestCheckWritesAtOnce(t *testing.T) {
	provider, token := checked(t, secretKey)
	var (
		written strings.Builder
		lines   []int
	)
	base := served{http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		lines = append(lines, strings.Count(written.String(), "\n"))
		io.WriteString(w, "{}")
	})}
	if _, err := check(t.Context(), &written, provider, token, base); err != nil || !slices.Equal(lines, []int{1, 2, 3}) {
		t.Errorf("error %v, lines before each call: %v", err, lines)
	}
	if _, err := check(t.Context(), brokenWriter{}, provider, token, base); err == nil {
		t.Error("that nothing could be written is not reported")
	}
}

// The command as a process of its own, which finds Bedrock behind an HTTPS proxy.
func TestCheckCommand(t *testing.T) {
	keys := map[string]string{"AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey, "NO_PROXY": ""}
	t.Run("no way to Bedrock", func(t *testing.T) {
		keys := with(keys, map[string]string{"HTTPS_PROXY": "http://127.0.0.1:1"})
		got := runCommand(t, keys, "", "-check", "-region", "us-east-1")
		if got.status != 1 || got.stderr != "" || strings.Count(got.stdout, ": no answer: proxyconnect tcp: ") != 3 || strings.Count(got.stdout, causes[unreachable].remedy) != 3 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("no such region", func(t *testing.T) {
		got := runCommand(t, keys, "", "-check", "-region", "useast1")
		if got.status != 1 || got.stderr != "" || strings.Count(got.stdout, ": no answer: not an endpoint of Bedrock: ") != 3 || strings.Count(got.stdout, causes[unreachable].likely) != 3 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("no token", func(t *testing.T) {
		got := runCommand(t, keys, "", "-check")
		if got.status != 1 || got.stdout != "" || !strings.HasPrefix(got.stderr, "bedrock-token: no region is set\n") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("wrong usage", func(t *testing.T) {
		got := runCommand(t, keys, "", "-check", "-json", "-region", "us-east-1")
		if got.status != 2 || got.stdout != "" || strings.Count(got.stderr, "\n") != 2 || !strings.Contains(got.stderr, "-check and -json") {
			t.Errorf("got %+v", got)
		}
	})
	if runtime.GOOS != "linux" {
		return // where SSL_CERT_FILE has no effect
	}
	for name, test := range map[string]struct {
		secret string
		status int
		says   string
	}{
		"accepted": {secretKey, 0, ": accepted\n"},
		"refused":  {"another/secret", 1, ": refused: 40"},
	} {
		t.Run(name, func(t *testing.T) {
			certificate, file := newCertificate(t, controlPlane, runtimeHost, mantle)
			server := httptest.NewUnstartedServer(newBedrock(""))
			server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
			server.StartTLS()
			defer server.Close()
			proxy := httptest.NewServer(tunnel(server.Listener.Addr().String()))
			defer proxy.Close()

			env := with(keys, map[string]string{"AWS_SECRET_ACCESS_KEY": test.secret, "HTTPS_PROXY": proxy.URL, "SSL_CERT_FILE": file})
			got := runCommand(t, env, "", "-check", "-region", "us-east-1")
			if got.status != test.status || got.stderr != "" || strings.Count(got.stdout, test.says) != 3 || strings.Contains(got.stdout, "bedrock-api-key-") {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func with(env, more map[string]string) map[string]string {
	env = maps.Clone(env)
	maps.Copy(env, more)
	return env
}

// newCertificate returns a certificate for hosts, and the name of a file that makes
// a program trust it.
func newCertificate(t *testing.T, hosts ...string) (tls.Certificate, string) {
	t.Helper()
	certificate := awstest.Certificate(t, hosts...)
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	return certificate, file
}

// tunnel is an HTTPS proxy that leads to address, whatever it is asked for.
func tunnel(address string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		server, err := net.Dial("tcp", address)
		if err != nil || r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer server.Close()
		client, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
		go io.Copy(server, client)
		io.Copy(client, server)
	})
}

// docs/troubleshooting.md has a row for each cause.
func TestCausesAreDocumented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "troubleshooting.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(page), "`", "")
	for _, why := range causes {
		if why == (cause{}) || !strings.Contains(text, " | "+why.likely+" | "+why.remedy+" |\n") {
			t.Errorf("no row ends in: %s | %s", why.likely, why.remedy)
		}
	}
	if len(page) > 4096 {
		t.Errorf("%d bytes", len(page))
	}
}
