package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
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
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

const (
	accessKeyID = "AKIAIOSFODNN7EXAMPLE"
	secretKey   = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	runMain     = "BEDROCK_TOKEN_TEST_RUNS_MAIN"
)

// Asked to, the test binary is the command.
func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
	}
	for _, variable := range []string{"HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"} {
		os.Unsetenv(variable)
	}
	os.Exit(awstest.Main(m))
}

type result struct {
	stdout, stderr string
	status         int
}

func runWith(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr strings.Builder
	status := run(t.Context(), args, strings.NewReader(stdin), &stdout, &stderr)
	return result{stdout.String(), stderr.String(), status}
}

func accept(t *testing.T, token, region, accessKeyID, secretKey string) verify.Token {
	t.Helper()
	verified, err := verify.Service{Region: region, Secret: func(id, _ string) (string, error) {
		if id != accessKeyID {
			return "", fmt.Errorf("not %s", accessKeyID)
		}
		return secretKey, nil
	}}.Verify(token)
	if err != nil {
		t.Fatalf("the token is refused: %v", err)
	}
	return verified
}

func TestToken(t *testing.T) {
	awstest.WriteConfig(t, `
[profile team]
region = eu-central-1
aws_access_key_id = AKIATEAM
aws_secret_access_key = team/secret
`)
	awstest.Set(t, map[string]string{"AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey})
	tests := map[string]struct {
		env                map[string]string
		args               []string
		region, id, secret string
		expiry             time.Duration
	}{
		"no arguments":       {map[string]string{"AWS_REGION": "us-west-2"}, nil, "us-west-2", accessKeyID, secretKey, 12 * time.Hour},
		"all":                {nil, []string{"-region", "us-east-1", "-profile", "team", "-expiry", "1h"}, "us-east-1", "AKIATEAM", "team/secret", time.Hour},
		"two dashes":         {nil, []string{"--region=us-east-1", "--expiry=90s"}, "us-east-1", accessKeyID, secretKey, 90 * time.Second},
		"profile's region":   {nil, []string{"-profile", "team"}, "eu-central-1", "AKIATEAM", "team/secret", 12 * time.Hour},
		"empty values":       {map[string]string{"AWS_REGION": "us-west-2"}, []string{"-region", "", "-profile", ""}, "us-west-2", accessKeyID, secretKey, 12 * time.Hour},
		"stale bearer token": {map[string]string{"AWS_REGION": "us-west-2", "AWS_BEARER_TOKEN_BEDROCK": "stale"}, nil, "us-west-2", accessKeyID, secretKey, 12 * time.Hour},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, test.env)
			plain := runWith(t, "", test.args...)
			token, ok := strings.CutSuffix(plain.stdout, "\n")
			if plain.status != 0 || plain.stderr != "" || !ok || strings.ContainsAny(token, "\r\n ") {
				t.Fatalf("got %+v, want one line on standard output and no more", plain)
			}
			if verified := accept(t, token, test.region, test.id, test.secret); verified.Expiry != test.expiry {
				t.Errorf("signed for %v, want %v", verified.Expiry, test.expiry)
			}

			asJSON := runWith(t, "", append(test.args, "-json")...)
			var fields map[string]string
			if err := json.Unmarshal([]byte(asJSON.stdout), &fields); err != nil || asJSON.status != 0 || asJSON.stderr != "" || len(fields) != 3 {
				t.Fatalf("got %+v, error %v", asJSON, err)
			}
			verified := accept(t, fields["token"], test.region, test.id, test.secret)
			if want := verified.SigningTime.Add(test.expiry).Format("2006-01-02T15:04:05Z"); fields["expiration"] != want || fields["region"] != test.region {
				t.Errorf("expiration %s in %s, want %s in %s", fields["expiration"], fields["region"], want, test.region)
			}
		})
	}
}

// serveSTS starts an STS that gives a role the access key ID which assume returns,
// or refuses it if that is empty.
func serveSTS(t *testing.T, assume func(r *http.Request) (accessKeyID string)) {
	sts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/xml")
		accessKeyID := assume(r)
		if accessKeyID == "" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>MultiFactorAuthentication failed,
				invalid MFA one time pass code.</Message></Error></ErrorResponse>`)
			return
		}
		fmt.Fprintf(w, `<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>role/secret</SecretAccessKey>
			<SessionToken>session</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`,
			accessKeyID, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	sts.Config.SetKeepAlivesEnabled(false) // an idle connection would outlive a bubble
	sts.Start()
	t.Cleanup(sts.Close)
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
}

// afterTheCode names keys after the MFA code for which they are given.
func afterTheCode(r *http.Request) string { return "ASIA" + r.FormValue("TokenCode") }

// Roles that ask for codes: two of the profile me, one of another role.
const mfaConfig = `
[profile me]
aws_access_key_id = AKIAME
aws_secret_access_key = secret
[profile team]
region = us-east-1
role_arn = arn:aws:iam::123456789012:role/team
source_profile = me
mfa_serial = arn:aws:iam::123456789012:mfa/me
[profile nowhere]
role_arn = arn:aws:iam::123456789012:role/team
source_profile = me
mfa_serial = arn:aws:iam::123456789012:mfa/me
[profile outer]
region = us-east-1
role_arn = arn:aws:iam::123456789012:role/outer
source_profile = team
mfa_serial = arn:aws:iam::123456789012:mfa/outer
`

const prompt = "MFA code for arn:aws:iam::123456789012:mfa/me: "

func TestMFA(t *testing.T) {
	serveSTS(t, func(r *http.Request) string {
		if r.FormValue("SerialNumber") == "arn:aws:iam::123456789012:mfa/me" && r.FormValue("TokenCode") == "123456" {
			return "ASIAROLE"
		}
		return ""
	})
	awstest.WriteConfig(t, mfaConfig)
	for _, typed := range []string{"123456\n", " 123456 \r\n", "123456"} {
		got := runWith(t, typed, "-profile", "team", "-region", "eu-west-1", "-expiry", "30m")
		if got.status != 0 || got.stderr != prompt {
			t.Fatalf("got %+v", got)
		}
		if verified := accept(t, strings.TrimSpace(got.stdout), "eu-west-1", "ASIAROLE", "role/secret"); verified.Expiry != 30*time.Minute {
			t.Errorf("signed for %v, want 30m", verified.Expiry)
		}
	}
	for typed, says := range map[string]string{
		"":         "\nbedrock-token: no MFA code was given\nRun it in a terminal and type the code.\n",
		"\n":       "\nbedrock-token: no MFA code was given\nRun it in a terminal and type the code.\n",
		"000000\n": "bedrock-token: STS answered: AccessDenied: MultiFactorAuthentication failed, invalid MFA one time pass code.\nTry again with a new code.\n",
	} {
		got := runWith(t, typed, "-profile", "team")
		if got.status != 1 || got.stdout != "" || !strings.HasPrefix(got.stderr, prompt) || !strings.Contains(got.stderr, says) || strings.Count(got.stderr, "\n") > 3 {
			t.Errorf("typed %q: got %+v, want %q", typed, got, says)
		}
	}

	asJSON := runWith(t, "123456", "-profile", "team", "-json")
	var fields struct{ Expiration time.Time }
	if err := json.Unmarshal([]byte(asJSON.stdout), &fields); err != nil {
		t.Fatalf("got %+v, error %v", asJSON, err)
	}
	if left := time.Until(fields.Expiration); left < 59*time.Minute || left > time.Hour {
		t.Errorf("expires in %v, want the hour that the role's credentials have", left)
	}
	// What can be seen to be wrong is, before anybody types.
	for _, test := range []struct {
		status int
		says   string
		args   []string
	}{
		{1, "no region is set", []string{"-profile", "nowhere"}},
		{2, "us east", []string{"-profile", "team", "-region", "us east"}},
		{2, "13h0m0s", []string{"-profile", "team", "-expiry", "13h"}},
	} {
		got := runWith(t, "123456\n", test.args...)
		if got.status != test.status || got.stdout != "" || !strings.Contains(got.stderr, test.says) || strings.Contains(got.stderr, prompt) {
			t.Errorf("%v: got %+v, want status %d and %q", test.args, got, test.status, test.says)
		}
	}
}

// A request that is not answered is given up, whoever has typed a code for it.
func TestMFASilentService(t *testing.T) {
	sts := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // a client that leaves is noticed after that
		<-r.Context().Done()
	}))
	defer sts.Close()
	awstest.WriteConfig(t, mfaConfig)
	awstest.Set(t, map[string]string{"AWS_ENDPOINT_URL_STS": sts.URL, "AWS_MAX_ATTEMPTS": "1"})
	if got, want := runWith(t, "123456\n", "-profile", "team"), (result{"", prompt + "bedrock-token: STS did not answer\nCheck the network and HTTPS_PROXY, or try again later.\n", 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// STS is asked in the region of the profile, which a network may have no other
// than. The token is for the region that was given.
func TestMFATwoRegions(t *testing.T) {
	var scopes []string
	serveSTS(t, func(r *http.Request) string {
		scopes = append(scopes, r.Header.Get("Authorization"))
		return afterTheCode(r)
	})
	awstest.WriteConfig(t, mfaConfig+"[default]\nregion = ap-south-1\n")
	got := runWith(t, "123456\n", "-profile", "team", "-region", "eu-west-1")
	accept(t, strings.TrimSpace(got.stdout), "eu-west-1", "ASIA123456", "role/secret")
	if len(scopes) != 1 || !strings.Contains(scopes[0], "/us-east-1/sts/") {
		t.Errorf("STS was asked with %q", scopes)
	}
	got = runWith(t, "123456\n", "-profile", "nowhere", "-region", "eu-west-1")
	accept(t, strings.TrimSpace(got.stdout), "eu-west-1", "ASIA123456", "role/secret")
	if len(scopes) != 2 || !strings.Contains(scopes[1], "/eu-west-1/sts/") {
		t.Errorf("STS was asked with %q", scopes)
	}
	// The default profile's region is another's.
	if got := runWith(t, "123456\n", "-profile", "nowhere"); got.status != 1 || !strings.Contains(got.stderr, "no region is set") {
		t.Errorf("got %+v", got)
	}
}

// A role is asked for an hour, as by the library, unless the profile says otherwise.
func TestMFADuration(t *testing.T) {
	var asked []string
	serveSTS(t, func(r *http.Request) string {
		asked = append(asked, r.FormValue("DurationSeconds"))
		return afterTheCode(r)
	})
	for _, setting := range []string{"", "duration_seconds = 900", "duration_seconds = 7200"} {
		awstest.WriteConfig(t, mfaConfig+"[profile team]\n"+setting)
		if got := runWith(t, "123456", "-profile", "team"); got.status != 0 {
			t.Fatalf("%s: got %+v", setting, got)
		}
	}
	if want := []string{"3600", "900", "7200"}; !slices.Equal(asked, want) {
		t.Errorf("asked for %q seconds, want %q", asked, want)
	}
}

// A person may take an hour to find the device that shows the code.
func TestMFAUnhurried(t *testing.T) {
	serveSTS(t, afterTheCode)
	awstest.WriteConfig(t, mfaConfig)
	synctest.Test(t, func(t *testing.T) {
		stdin, terminal := io.Pipe()
		go func() {
			time.Sleep(time.Hour)
			fmt.Fprintln(terminal, "123456")
		}()
		var stdout, stderr strings.Builder
		if status := run(t.Context(), []string{"-profile", "team"}, stdin, &stdout, &stderr); status != 0 {
			t.Fatalf("status %d: %s", status, stderr.String())
		}
		accept(t, strings.TrimSpace(stdout.String()), "us-east-1", "ASIA123456", "role/secret")
	})
}

// What is wrong stands in one line, what to do about it in a second. Package
// explain's tests have the words.
func TestFailures(t *testing.T) {
	tests := map[string]struct {
		env    map[string]string
		args   []string
		status int
		says   []string
	}{
		"no region":      {nil, nil, 1, []string{"no region", "-region"}},
		"bad AWS_REGION": {map[string]string{"AWS_REGION": "us_east_1"}, nil, 1, []string{`"us_east_1"`, "such as us-east-1."}},
		"no credentials": {map[string]string{"AWS_ACCESS_KEY_ID": ""}, []string{"-region", "us-east-1", "-check"}, 1, []string{"only one of", "Set the other one too."}},
		"CA bundle":      {map[string]string{"AWS_CA_BUNDLE": "/does/not/exist"}, []string{"-region", "us-east-1", "-check"}, 1, []string{"/does/not/exist", "AWS_CA_BUNDLE"}},

		"expiry seen first": {nil, []string{"-expiry", "13h", "-profile", "ghost"}, 2, []string{"13h0m0s", "30m or 12h"}},
		"region seen first": {nil, []string{"-region", "us east", "-profile", "ghost"}, 2, []string{`"us east"`}},
		"bad region":        {nil, []string{"-region", "US-EAST-1"}, 2, []string{`"US-EAST-1"`, "such as us-east-1."}},
		"expiry of 0":       {nil, []string{"-region", "us-east-1", "-expiry", "0"}, 2, []string{"0s", "30m or 12h"}},
		"expiry of no unit": {nil, []string{"-region", "us-east-1", "-expiry", "3600"}, 2, []string{`"3600"`, "-h"}},
		"unknown flag":      {nil, []string{"-regoin", "us-east-1"}, 2, []string{"-regoin", "-h"}},
		"no value":          {nil, []string{"-region"}, 2, []string{"-region", "-h"}},
		"odd flag":          {nil, []string{"-a\nb\r\nc"}, 2, []string{"-a b c", "-h"}},
		"long argument":     {nil, []string{strings.Repeat("x", 1000)}, 2, []string{`"xxx`, "-h"}},
		"argument, version": {nil, []string{"-version", "x"}, 2, []string{`"x"`, "-h"}},
		"check and JSON":    {nil, []string{"-check", "-json"}, 2, []string{"-check and -json", "-h"}},
	}
	awstest.Set(t, map[string]string{"AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey})
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, test.env)
			got := runWith(t, "", test.args...)
			if got.status != test.status || got.stdout != "" {
				t.Errorf("got %+v, want status %d and nothing on standard output", got, test.status)
			}
			if strings.Count(got.stderr, "\n") != 2 || len(got.stderr) > 400 {
				t.Errorf("not two lines:\n%s", got.stderr)
			}
			for _, part := range test.says {
				if !strings.Contains(got.stderr, part) {
					t.Errorf("%q is not in:\n%s", part, got.stderr)
				}
			}
			if strings.Contains(got.stderr, secretKey) {
				t.Errorf("a secret is shown:\n%s", got.stderr)
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	help := runWith(t, "", "-h")
	for _, part := range []string{"AWS_BEARER_TOKEN_BEDROCK=$(bedrock-token) && export AWS_BEARER_TOKEN_BEDROCK", "-region us-east-1 -profile team -expiry 1h", "-json", "-version",
		"check a token against Bedrock's endpoints instead of printing it", "exit status is 0"} {
		if help.status != 0 || help.stderr != "" || !strings.Contains(help.stdout, part) {
			t.Errorf("%q is not in %+v", part, help)
		}
	}
	got := runWith(t, "", "-version")
	if got.status != 0 || got.stderr != "" || !strings.HasPrefix(got.stdout, "bedrock-token ") || !strings.HasSuffix(got.stdout, " "+runtime.Version()+"\n") {
		t.Errorf("-version: got %+v", got)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestBrokenOutput(t *testing.T) {
	awstest.Set(t, map[string]string{"AWS_ACCESS_KEY_ID": accessKeyID, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_REGION": "us-east-1"})
	for _, args := range [][]string{nil, {"-json"}, {"-version"}, {"-check"}} {
		var stderr strings.Builder
		if status := run(t.Context(), args, strings.NewReader(""), brokenWriter{}, &stderr); status != 1 || !strings.Contains(stderr.String(), "broken pipe") {
			t.Errorf("%v: status %d, %q", args, status, stderr.String())
		}
	}
}

// Two roles that each ask for a code, and both codes in one go.
func TestTwoMFACodes(t *testing.T) {
	serveSTS(t, afterTheCode)
	awstest.WriteConfig(t, mfaConfig)
	got := runWith(t, "111111\n222222\n", "-profile", "outer")
	if got.status != 0 || strings.Count(got.stderr, "MFA code for ") != 2 {
		t.Fatalf("got %+v", got)
	}
	accept(t, strings.TrimSpace(got.stdout), "us-east-1", "ASIA111111", "role/secret") // the outer role asks first
}

// Ctrl-C ends the command while a source hangs, and while it waits for a code.
func TestInterrupt(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // where a program cannot send Ctrl-C to another
	}
	asked := make(chan struct{}, 1)
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	}))
	defer server.Close()
	defer close(release)
	awstest.WriteConfig(t, mfaConfig)
	awstest.Set(t, map[string]string{"AWS_REGION": "us-east-1", "AWS_CONTAINER_CREDENTIALS_FULL_URI": server.URL, runMain: "yes"})

	for name, test := range map[string]struct {
		args []string
		wait func(stderr io.Reader)
	}{
		"source hangs": {nil, func(io.Reader) { <-asked }},
		"code awaited": {[]string{"-profile", "team"}, func(stderr io.Reader) { io.ReadFull(stderr, make([]byte, len("MFA code for"))) }},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			command := exec.CommandContext(ctx, os.Args[0], test.args...)
			var stdout strings.Builder
			command.Stdout = &stdout
			_, stdinErr := command.StdinPipe()
			stderr, stderrErr := command.StderrPipe()
			if err := errors.Join(stdinErr, stderrErr, command.Start()); err != nil {
				t.Fatal(err)
			}
			test.wait(stderr)
			signalErr := command.Process.Signal(os.Interrupt)
			io.Copy(io.Discard, stderr)
			command.Wait()
			if status := command.ProcessState.ExitCode(); status != -1 || ctx.Err() != nil || signalErr != nil || stdout.String() != "" {
				t.Errorf("status %d, error %v, standard output %q", status, errors.Join(ctx.Err(), signalErr), stdout.String())
			}
		})
	}
}

// Bedrock is found behind a company's proxy, whose certificate authority is named
// as for the AWS SDK.
func TestCheckBehindAProxy(t *testing.T) {
	certificate := awstest.Certificate(t, controlPlane, runtimeHost, mantle)
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(newBedrock())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	server.StartTLS()
	defer server.Close()
	// An HTTPS proxy that leads to the server, whatever it is asked for.
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		there, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil || r.Method != http.MethodConnect {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer there.Close()
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer here.Close()
		io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go io.Copy(there, here)
		io.Copy(here, there)
	}))
	defer proxy.Close()
	locked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusProxyAuthRequired) }))
	defer locked.Close()
	address, lockedAddress := strings.TrimPrefix(proxy.URL, "http://"), strings.TrimPrefix(locked.URL, "http://")
	throughIt := "HTTPS_PROXY=http://me:password@" + address

	for name, test := range map[string]struct {
		env    []string
		status int
		says   string // three times
		once   string
	}{
		"accepted":     {[]string{throughIt, "AWS_CA_BUNDLE=" + bundle}, 0, ": accepted\n", "Proxy: " + address + "\n"},
		"refused":      {[]string{throughIt, "AWS_CA_BUNDLE=" + bundle, "AWS_SECRET_ACCESS_KEY=another/secret"}, 1, ": refused: 40", "do not belong together"},
		"no authority": {[]string{throughIt}, 1, ": no answer: tls: failed to verify certificate: ", "likely cause: the authority of the certificate"},
		"no way":       {[]string{"HTTPS_PROXY=http://me:password@127.0.0.1:1"}, 1, ": no answer: proxyconnect tcp: ", "likely cause: the proxy 127.0.0.1:1 cannot be reached"},
		"no entry":     {[]string{"HTTPS_PROXY=http://me:password@" + lockedAddress}, 1, ": no answer: proxyconnect tcp: ", "likely cause: the proxy " + lockedAddress + " wants a user name"},
	} {
		t.Run(name, func(t *testing.T) {
			command := exec.CommandContext(t.Context(), os.Args[0], "-check", "-region", "us-east-1")
			command.Env = append(os.Environ(), runMain+"=yes", "AWS_ACCESS_KEY_ID="+accessKeyID, "AWS_SECRET_ACCESS_KEY="+secretKey)
			command.Env = append(command.Env, test.env...)
			var written, stderr strings.Builder
			command.Stdout, command.Stderr = &written, &stderr
			command.Run()
			status, stdout := command.ProcessState.ExitCode(), written.String()
			if status != test.status || stderr.String() != "" || strings.Count(stdout, test.says) != 3 || strings.Count(stdout, test.once) != 1 {
				t.Errorf("status %d, %s, output:\n%s", status, stderr.String(), stdout)
			}
			if strings.Contains(stdout, "bedrock-api-key-") || strings.Contains(stdout, "me:pass") {
				t.Errorf("a secret is shown:\n%s", stdout)
			}
		})
	}
}
