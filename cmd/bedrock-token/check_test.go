package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
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
	session      = "session+of/me=="
)

var theCalls = []string{
	"GET " + controlPlane + "/foundation-models",
	"POST " + runtimeHost + "/model/bedrock-token-check/converse",
	"GET " + mantle + "/v1/models",
}

// A bedrock plays the three endpoints.
type bedrock struct {
	service verify.Service
	calls   []string
}

func newBedrock() *bedrock {
	return &bedrock{service: verify.Service{Region: "us-east-1", Secret: func(id, _ string) (string, error) {
		if id != accessKeyID {
			return "", errors.New("the security token included in the request is invalid")
		}
		return secretKey, nil
	}}}
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
		json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"message": err.Error()}})
	case err != nil:
		w.WriteHeader(http.StatusForbidden)
		json.NewEncoder(w).Encode(map[string]string{"Message": err.Error()})
	case !slices.Contains(theCalls, call):
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodPost:
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"message": "The provided model identifier is invalid."}`)
	case r.Host == mantle:
		io.WriteString(w, `{"object": "list", "data": []}`)
	default:
		io.WriteString(w, `{"modelSummaries": ["`+strings.Repeat("x", 100_000)+`"]}`)
	}
}

// served returns a RoundTripper that a handler answers.
func served(handler http.Handler) http.RoundTripper {
	return awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
		r.Host = r.URL.Host
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, r)
		return recorder.Result(), nil
	})
}

const echo = "(the server puts the token here)"

// answer returns a RoundTripper that answers all three calls alike.
func answer(status int, body string) http.RoundTripper {
	return awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
		text := strings.ReplaceAll(body, echo, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		return &http.Response{StatusCode: status, Header: http.Header{"Location": {"https://login.example.com/"}}, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
	})
}

// refusal returns one that refuses the token.
func refusal(message string) http.RoundTripper {
	encoded, _ := json.Marshal(map[string]string{"Message": message})
	return answer(403, string(encoded))
}

// failing returns a RoundTripper that gets no answer from hosts, and those of a
// bedrock from others.
func failing(err func(host string) error, hosts ...string) http.RoundTripper {
	bedrock := served(newBedrock())
	return awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
		if slices.Contains(hosts, r.URL.Host) {
			return nil, err(r.URL.Host)
		}
		return bedrock.RoundTrip(r)
	})
}

func always(err error) func(string) error { return func(string) error { return err } }

func noSuchHost(host string) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
}

func checked(t *testing.T, secretKey string) (*bedrocktoken.Provider, bearer.Token) {
	t.Helper()
	provider, err := bedrocktoken.NewProvider(t.Context(), bedrocktoken.WithRegion("us-east-1"),
		bedrocktoken.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(accessKeyID, secretKey, session)))
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
func runCheck(t *testing.T, secretKey string, base http.RoundTripper) (output string, ok bool) {
	t.Helper()
	provider, token := checked(t, secretKey)
	var written strings.Builder
	ok, err := check(t.Context(), &written, provider, token, "", base)
	if err != nil {
		t.Error(err)
	}
	for _, secret := range []string{"bedrock-api-key-", token.Value[100:120], "session%2B", session, secretKey} {
		if strings.Contains(written.String(), secret) {
			t.Fatalf("%q is shown:\n%s", secret, written.String())
		}
	}
	return written.String(), ok
}

func TestCheckAccepts(t *testing.T) {
	bedrock := newBedrock()
	before := time.Now().Add(12 * time.Hour).Truncate(time.Second)
	output, ok := runCheck(t, secretKey, served(bedrock))
	first, rest, _ := strings.Cut(output, "\n")
	want := "Proxy: none\n" +
		"control plane, " + controlPlane + ": accepted\n" +
		"runtime, " + runtimeHost + ": accepted\n" +
		"Mantle, " + mantle + ": accepted\n"
	if !ok || rest != want {
		t.Errorf("ok is %v, output\n%swant\n%s", ok, rest, want)
	}
	until, found := strings.CutPrefix(first, "The token is for us-east-1, signed with the access key "+accessKeyID+", and expires at ")
	expires, err := time.Parse(time.RFC3339+".", until)
	if !found || err != nil || expires.Before(before) || time.Until(expires) > 12*time.Hour {
		t.Errorf("the first line is %q, error %v", first, err)
	}
	if !slices.Equal(bedrock.calls, theCalls) {
		t.Errorf("calls %q, want %q", bedrock.calls, theCalls)
	}
}

// Of each answer, and of none, the likely cause is named once, or it is said that
// the answer does not say it.
func TestCheckNamesTheCause(t *testing.T) {
	at := func(ahead time.Duration) http.RoundTripper {
		b := newBedrock()
		b.service.ClockAhead = ahead
		return served(b)
	}
	certificate := func(err error) func(string) error {
		return always(&tls.CertificateVerificationError{Err: err, UnverifiedCertificates: []*x509.Certificate{{Issuer: pkix.Name{CommonName: "Corp CA"}}}})
	}
	half := awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF)), Request: r}, nil
	})
	all := []string{controlPlane, runtimeHost, mantle}
	const (
		notAuthorized = "User: arn:aws:sts::123456789012:assumed-role/team/me is not authorized to perform: bedrock:CallWithBearerToken on resource: * "
		canonical     = "The canonical string should have been 'POST\n/\nX-Amz-Security-Token=session%2Bof%2Fme%3D%3D&X-Amz-SignedHeaders=host'. The signature does not match"
		network       = "the network does not let the request through, or Bedrock has no such endpoint in this region|check the network, HTTPS_PROXY and NO_PROXY, and the region"
		proxy         = "a proxy on the way answered, not Bedrock|let it pass"
		keys          = "the credentials that signed the token have expired, were revoked or deleted, or do not belong together|sign in again"
		permission    = "no policy gives the identity the permission bedrock:CallWithBearerToken|in an IAM policy of the identity"
		outOfOrder    = "is out of order or overloaded|try again later"
		unknown       = "the answer does not say|try again; if it stays"
		clock         = "the clock of this machine is wrong|NTP"
		nothing       = "Bedrock has no such endpoint in this region|none is needed"
	)
	for name, test := range map[string]struct {
		base  http.RoundTripper
		ok    bool
		says  string // in so many verdicts
		times int
		why   string // parts of cause and remedy, or ""
	}{
		"no permission":         {refusal("User: x is not authorized to perform: bedrock:CallWithBearerToken on resource: *"), false, ": refused: 403 Forbidden \"User: x", 3, permission},
		"no policy":             {refusal(notAuthorized + "because no identity-based policy allows it"), false, ": refused: 403", 3, "no identity-based policy gives|in an IAM policy of the identity"},
		"session policy":        {refusal(notAuthorized + "because no session policy allows the bedrock:CallWithBearerToken action"), false, ": refused: 403", 3, "no session policy gives|in the session policy; "},
		"organization":          {refusal(notAuthorized + "because no service control policy allows the bedrock:CallWithBearerToken action"), false, ": refused: 403", 3, "no service control policy gives|in the service control policy; "},
		"boundary":              {refusal(notAuthorized + "because no permissions boundary allows the bedrock:CallWithBearerToken action"), false, ": refused: 403", 3, "no permissions boundary gives|in the permissions boundary; "},
		"VPC endpoint":          {refusal(notAuthorized + "because no VPC endpoint policy allows the bedrock:CallWithBearerToken action"), false, ": refused: 403", 3, "no VPC endpoint policy gives|in the VPC endpoint policy; "},
		"denied":                {refusal(notAuthorized + "with an explicit deny in an identity-based policy"), false, ": refused: 403", 3, "denied by a policy|find the Deny in the identity's policies"},
		"denied somewhere":      {refusal(notAuthorized + "with an explicit deny in a service control policy"), false, ": refused: 403", 3, "denied by the service control policy|find the Deny in the service control policy"},
		"reason among many":     {answer(403, `{"Code": "`+strings.Repeat("x", 60_000)+`", "Message": "no"}`), false, ": refused: 403 Forbidden \"no\"\n", 3, unknown},
		"long reason":           {refusal(strings.Repeat("xxxx ", 99) + "xxxxyz"), false, "xxxxy\"\n", 3, unknown},
		"invalid format":        {refusal("Invalid API Key format: Must start with pre-defined prefix"), false, ": refused: 403", 3, permission},
		"valid API key":         {refusal("Authentication failed: Please make sure your API Key is valid."), false, ": refused: 403", 3, unknown},
		"expired":               {refusal("The security token included in the request is expired"), false, ": refused: 403", 3, keys},
		"unknown key":           {refusal("The security token included in the request is invalid."), false, ": refused: 403", 3, keys},
		"invalid token":         {refusal("Invalid bearer token"), false, ": refused: 403", 3, keys},
		"canonical string":      {refusal(canonical), false, "X-Amz-***&X-Amz-SignedHeaders", 3, keys},
		"not yet valid":         {refusal("Signature not yet current"), false, ": refused: 403", 3, clock},
		"clock ahead":           {at(-time.Hour), false, ": refused: 40", 3, clock},
		"clock far behind":      {at(13 * time.Hour), false, ": refused: 40", 3, clock},
		"anything else":         {refusal("no"), false, ": refused: 403 Forbidden \"no\"\n", 3, unknown},
		"token echoed":          {refusal("Invalid: " + echo), false, ": refused: 403 Forbidden \"Invalid: ***\"\n", 3, unknown},
		"another permission":    {refusal("User: x is not authorized to perform: bedrock:ListFoundationModels because no policy allows it"), true, "accepted, but the identity lacks the permission bedrock:ListFoundationModels\n", 2, ""},
		"nor on Mantle":         {answer(401, `{"error": {"message": "User: x is not authorized to perform: bedrock-mantle:ListModels"}}`), true, "accepted, but the identity lacks the permission bedrock-mantle:ListModels\n", 2, ""},
		"not found":             {answer(404, `{"message": "No such thing"}`), true, "accepted, but the call failed: 404 Not Found \"No such thing\"\n", 2, ""},
		"out of order":          {answer(503, `{"message": "x"}`), false, ": no verdict: 503 Service Unavailable \"x\"\n", 3, outOfOrder},
		"throttled":             {answer(429, `{"message": "x"}`), false, ": no verdict: 429 Too Many Requests \"x\"\n", 3, outOfOrder},
		"a proxy refuses":       {answer(403, "<html>\x1b"), false, ": no verdict: 403 Forbidden \"<html>\\x1b\"\n", 3, proxy},
		"a proxy finds none":    {answer(404, "<html>"), false, ": no verdict: 404 Not Found \"<html>\"\n", 3, proxy},
		"a proxy shows a page":  {answer(200, "\n<html>Blocked"), false, ": no verdict: 200 OK \"\\n<html>Blocked\"\n", 3, proxy},
		"a proxy speaks JSON":   {answer(200, `{"login": "http://portal/"}`), false, ": no verdict: 200 OK", 3, proxy},
		"a proxy half does":     {answer(200, `{"data": <script>`), false, ": no verdict: 200 OK", 3, proxy},
		"a proxy says it all":   {answer(200, `{"modelSummaries": [], "data": [], "message": "x"}`), false, "runtime, " + runtimeHost + ": no verdict: 200 OK", 1, proxy},
		"a proxy says 099":      {answer(99, `{"modelSummaries": [], "data": [], "message": "x"}`), false, ": no verdict: 99 ", 3, proxy},
		"a proxy redirects":     {answer(307, `{"message": "x"}`), false, ": no verdict: 307 ", 3, proxy},
		"another method":        {answer(405, `{"message": "x"}`), false, ": no verdict: 405 ", 3, unknown},
		"a proxy says nothing":  {answer(200, ""), false, ": no verdict: 200 OK \"\"\n", 3, proxy},
		"a proxy leads away":    {answer(302, ""), false, ": no verdict: 302 Found \"\"\n", 3, proxy},
		"a proxy shows a token": {answer(403, "<b>"+echo+"</b>"), false, ": no verdict: 403 Forbidden \"<b>***", 3, proxy},

		"half an answer":    {half, false, ": no answer: unexpected EOF\n", 3, network},
		"no host":           {failing(noSuchHost, all...), false, "no such host\n", 3, network},
		"no Mantle":         {failing(noSuchHost, mantle), true, ": no answer: dial tcp: lookup " + mantle + ": no such host\n", 1, nothing},
		"no control plane":  {failing(noSuchHost, controlPlane), true, ": no answer: dial tcp: lookup " + controlPlane + ": no such host\n", 1, nothing},
		"no host of a way":  {failing(always(noSuchHost("proxy.example.com")), mantle), false, "lookup proxy.example.com: no such host\n", 1, network},
		"one does not":      {failing(always(context.DeadlineExceeded), runtimeHost), false, ": accepted\n", 2, network},
		"no way to all":     {failing(always(context.DeadlineExceeded), all...), false, ": no answer: context deadline exceeded\n", 3, network},
		"another authority": {failing(certificate(x509.UnknownAuthorityError{}), all...), false, ": no answer: tls: ", 3, `"CN=Corp CA", is not trusted here: a proxy on the way has its own, or AWS_CA_BUNDLE lacks Amazon's|AWS_CA_BUNDLE`},
		"odd authority":     {failing(certificate(x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}), all...), false, ": no answer: tls: ", 3, `"CN=Corp CA", is not trusted here|AWS_CA_BUNDLE`},
		"another host":      {failing(certificate(x509.HostnameError{Certificate: &x509.Certificate{}, Host: mantle}), all...), false, ": no answer: tls: ", 3, proxy},
		"old certificate":   {failing(certificate(x509.CertificateInvalidError{Reason: x509.Expired}), all...), false, ": no answer: tls: ", 3, clock},
		"no credentials":    {failing(always(bedrocktoken.ErrCredentials), all...), false, ": no answer: no valid credentials\n", 3, keys},
	} {
		t.Run(name, func(t *testing.T) {
			output, ok := runCheck(t, secretKey, test.base)
			if ok != test.ok || strings.Count(output, test.says) != test.times {
				t.Errorf("ok is %v, and %q is not there %d times:\n%s", ok, test.says, test.times, output)
			}
			likely, remedy, found := strings.Cut(test.why, "|")
			_, why, one := strings.Cut(output, "  likely cause: ")
			first, second, _ := strings.Cut(why, "\n  remedy: ")
			if one != found || strings.Contains(second, "likely cause") || !strings.Contains(first, likely) || !strings.Contains(second, remedy) {
				t.Errorf("want the cause %q, got:\n%s", test.why, output)
			}
		})
	}
	output, _ := runCheck(t, "another/secret", served(newBedrock()))
	if want := "do not belong together"; strings.Count(output, want) != 1 {
		t.Errorf("%q is not in:\n%s", want, output)
	}
}

// What is set beside the credentials in use is named, and nothing of it is shown
// that is secret.
func TestCheckSaysWhatIsSet(t *testing.T) {
	tokenOf := func(expiry time.Duration, region string) string {
		token, err := bedrocktoken.ProvideToken(t.Context(), bedrocktoken.WithRegion(region), bedrocktoken.WithExpiry(expiry),
			bedrocktoken.WithCredentialsProvider(credentials.NewStaticCredentialsProvider("ASIAOTHER", secretKey, session)))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	const (
		variable = "AWS_BEARER_TOKEN_BEDROCK holds "
		sent     = ". The check does not use it, but the AWS SDKs and other clients send it whatever the code says.\n"
		neither  = variable + "something that is neither a token nor a long-term API key" + sent
		keys     = "The keys in the environment come before AWS_PROFILE. To use the profile, give -profile or unset the keys.\n"
	)
	var old string
	synctest.Test(t, func(t *testing.T) { // on 2000-01-01
		old = tokenOf(time.Hour, "eu-west-1")
	})
	without := func(token, parameter string) string {
		decoded, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(token, "bedrock-api-key-"))
		return "bedrock-api-key-" + base64.StdEncoding.EncodeToString([]byte(strings.ReplaceAll(string(decoded), parameter, "X")))
	}
	for name, test := range map[string]struct {
		env  map[string]string
		want string
	}{
		"nothing":           {nil, ""},
		"token":             {map[string]string{"AWS_BEARER_TOKEN_BEDROCK": tokenOf(12*time.Hour, "us-west-2")}, variable + "a token for us-west-2, signed with the access key ASIAOTHER, that expires at " + "20"},
		"old token":         {map[string]string{"AWS_BEARER_TOKEN_BEDROCK": old}, variable + "a token for eu-west-1, signed with the access key ASIAOTHER, that expired at 2000-01-01T01:00:00Z" + sent},
		"half a token":      {map[string]string{"AWS_BEARER_TOKEN_BEDROCK": old[:len(old)/2]}, neither},
		"no prefix":         {map[string]string{"AWS_BEARER_TOKEN_BEDROCK": strings.TrimPrefix(old, "bedrock-api-key-")}, neither},
		"no date":           {map[string]string{"AWS_BEARER_TOKEN_BEDROCK": without(old, "X-Amz-Date")}, neither},
		"no credential":     {map[string]string{"AWS_BEARER_TOKEN_BEDROCK": without(old, "X-Amz-Credential")}, neither},
		"long-term key":     {map[string]string{"AWS_BEARER_TOKEN_BEDROCK": "ABSKQmVkcm9ja0FQSUtleQ=="}, variable + "a long-term API key" + sent},
		"profile":           {map[string]string{"AWS_PROFILE": "team"}, ""},
		"profile, and keys": {map[string]string{"AWS_PROFILE": "team", "AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey}, keys},
	} {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, test.env)
			output, _ := runCheck(t, secretKey, served(newBedrock()))
			_, rest, _ := strings.Cut(output, "\n")
			said, _, _ := strings.Cut(rest, "Proxy: ")
			if !strings.HasPrefix(said, test.want) || test.want == "" && said != "" {
				t.Errorf("got  %q\nwant %q", said, test.want)
			}
		})
	}
}

// An endpoint that does not answer costs 20 seconds, and the others are tried.
func TestCheckTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		output, ok := runCheck(t, secretKey, awstest.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}))
		if took := time.Since(began); ok || took != time.Minute || strings.Count(output, ": no answer: ") != 3 {
			t.Errorf("after %v: ok is %v, output:\n%s", took, ok, output)
		}
	})
}

// Somebody who waits sees what has been found out so far. Nothing is tried if
// nobody can see it.
func TestCheckWritesAtOnce(t *testing.T) {
	provider, token := checked(t, secretKey)
	var (
		written strings.Builder
		lines   []int
	)
	base := served(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		lines = append(lines, strings.Count(written.String(), "\n"))
		io.WriteString(w, "{}")
	}))
	if _, err := check(t.Context(), &written, provider, token, "", base); err != nil || !slices.Equal(lines, []int{2, 3, 4}) {
		t.Errorf("error %v, lines before each call: %v", err, lines)
	}
	if _, err := check(t.Context(), brokenWriter{}, provider, token, "", base); err == nil || len(lines) > 3 {
		t.Errorf("error %v, and %d calls", err, len(lines))
	}
}
