package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/examples/internal/clienttest"
	"github.com/bedrocktoken/bedrocktoken/examples/internal/fakebedrock"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

const roleARN = "arn:aws:iam::123456789012:role/bedrock"

func TestMain(m *testing.M) { clienttest.Main(m, main) }

// startSTS starts an STS that the SDK finds by the environment, and puts credentials
// in the environment that may assume the role.
func startSTS(t *testing.T, answer func(context.Context, clienttest.AssumeRole) (aws.Credentials, error)) *clienttest.STS {
	t.Helper()
	sts := clienttest.NewSTS(t, answer)
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIABASE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "base secret")
	return sts
}

func roleCredentials(context.Context, clienttest.AssumeRole) (aws.Credentials, error) {
	return aws.Credentials{
		AccessKeyID: "ASIAROLE", SecretAccessKey: "secret", SessionToken: "session", Expires: time.Now().Add(time.Hour),
	}, nil
}

func TestProgram(t *testing.T) {
	clienttest.Program{
		Args: []string{"-role", roleARN},
		Path: "/model/us.amazon.nova-lite-v1:0/converse",
		Provide: func(t *testing.T, keys *clienttest.Keys) {
			startSTS(t, func(ctx context.Context, _ clienttest.AssumeRole) (aws.Credentials, error) {
				return keys.Retrieve(ctx)
			})
			// Neither may take the place of the Provider.
			t.Setenv("AWS_BEARER_TOKEN_BEDROCK", "stale")
			t.Setenv("AWS_AUTH_SCHEME_PREFERENCE", "sigv4")
		},
	}.Run(t)
}

func TestProgramTellsSTSWhatTheFlagsSay(t *testing.T) {
	clienttest.Isolate(t)
	sts := startSTS(t, roleCredentials)
	server := fakebedrock.New(t, verify.Service{
		Region: clienttest.Region,
		Secret: func(string, string) (string, error) { return "secret", nil },
	})
	_, err := clienttest.Exec(t, server, nil,
		"-region", clienttest.Region, "-endpoint", server.URL, "-role", roleARN,
		"-external-id", "7f3a", "-session-name", "nightly", "-tag", "team=search", "-tag", "note=a=b", "-tag", "empty=")
	if err != nil {
		t.Fatal(err)
	}
	want := clienttest.AssumeRole{
		Role: roleARN, ExternalID: "7f3a", SessionName: "nightly",
		Tags:        map[string]string{"team": "search", "note": "a=b", "empty": ""},
		AccessKeyID: "AKIABASE", Region: clienttest.Region,
	}
	if got := sts.Requests(); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("STS received %+v, want %+v", got, want)
	}
	if out, err := clienttest.Exec(t, server, nil, "-role", roleARN, "-tag", "=value"); err == nil {
		t.Errorf("a tag without a key is accepted, output %q", out)
	}
}

func TestSTSIsAskedAtHome(t *testing.T) {
	clienttest.Isolate(t)
	sts := startSTS(t, roleCredentials)
	t.Setenv("AWS_REGION", "eu-west-1")
	provider, err := newProvider(t.Context(), "us-east-1", role{ARN: roleARN, Region: "us-east-1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := sts.Requests()[0].Region; got != "eu-west-1" {
		t.Errorf("STS was asked in %s, want the environment's region", got)
	}
}

func TestRefusalIsErrCredentials(t *testing.T) {
	clienttest.Isolate(t)
	startSTS(t, func(context.Context, clienttest.AssumeRole) (aws.Credentials, error) {
		return aws.Credentials{}, errors.New("this role is not yours")
	})
	provider, err := newProvider(t.Context(), "us-east-1", role{ARN: roleARN})
	if err != nil {
		t.Fatal(err)
	}
	_, err = provider.Token(t.Context())
	if !errors.Is(err, bedrocktoken.ErrCredentials) || !strings.Contains(err.Error(), "this role is not yours") {
		t.Errorf("error %v, want ErrCredentials and STS's message", err)
	}
}

func TestReplacedBaseKeysAreSeenAtNextRenewal(t *testing.T) {
	clienttest.Isolate(t)
	sts := startSTS(t, roleCredentials)
	os.Unsetenv("AWS_ACCESS_KEY_ID") // t.Setenv above restores it
	os.Unsetenv("AWS_SECRET_ACCESS_KEY")
	file := filepath.Join(t.TempDir(), "credentials")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)

	r := role{ARN: roleARN, Region: "us-east-1"}
	keys := []string{"AKIABEFORE", "AKIAAFTER"}
	for i, key := range keys {
		text := "[default]\naws_access_key_id = " + key + "\naws_secret_access_key = secret\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := r.retrieve(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := sts.Requests()[i].AccessKeyID; got != key {
			t.Errorf("STS was asked with %s, want %s", got, key)
		}
	}
}

// startContainerEndpoint starts a server that gives out base credentials as the endpoint of ECS and EKS does,
// and leaves requests unanswered while silent is true.
func startContainerEndpoint(t *testing.T, silent *atomic.Bool) (asked <-chan struct{}) {
	t.Helper()
	requests := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wasSilent := silent.Load()
		requests <- struct{}{}
		if wasSilent {
			<-r.Context().Done()
			return
		}
		json.NewEncoder(w).Encode(map[string]string{
			"AccessKeyId": "ASIACONTAINER", "SecretAccessKey": "secret", "Token": "session",
			"Expiration": time.Now().Add(time.Hour).UTC().Format(time.RFC3339),
		})
	}))
	t.Cleanup(func() {
		server.CloseClientConnections() // else Close waits for those without an answer
		server.Close()
	})
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", server.URL)
	return requests
}

func TestUnansweredRequestDoesNotEndRenewals(t *testing.T) {
	for _, silence := range []string{"base credentials", "STS"} {
		t.Run(silence, func(t *testing.T) {
			clienttest.Isolate(t)
			var silentBase, silentSTS atomic.Bool
			silentBase.Store(silence == "base credentials")
			silentSTS.Store(silence == "STS")
			startSTS(t, func(ctx context.Context, request clienttest.AssumeRole) (aws.Credentials, error) {
				if silentSTS.Load() {
					<-ctx.Done()
				}
				return roleCredentials(ctx, request)
			})
			os.Unsetenv("AWS_ACCESS_KEY_ID") // t.Setenv above restores it
			os.Unsetenv("AWS_SECRET_ACCESS_KEY")
			startContainerEndpoint(t, &silentBase)

			r := role{ARN: roleARN, Region: "us-east-1"}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if _, err := r.retrieve(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("error %v, want the end of the context", err)
			}
			silentBase.Store(false)
			silentSTS.Store(false)
			ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if _, err := r.retrieve(ctx); err != nil {
				t.Errorf("the next renewal fails: %v", err)
			}
		})
	}
}

// The SDK itself would wait for a minute for an answer of a container's endpoint or
// of STS that never comes.
func TestUnansweredRequestIsGivenUp(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for 10 seconds")
	}
	clienttest.Isolate(t)
	var silentBase, silentSTS atomic.Bool
	const waitsForBase, waitsForSTS = roleARN + "/base", roleARN + "/sts"
	silentSTS.Store(true)
	startSTS(t, func(ctx context.Context, request clienttest.AssumeRole) (aws.Credentials, error) {
		if request.Role == waitsForSTS && silentSTS.Swap(false) {
			<-ctx.Done()
		}
		return roleCredentials(ctx, request)
	})
	os.Unsetenv("AWS_ACCESS_KEY_ID") // t.Setenv above restores it
	os.Unsetenv("AWS_SECRET_ACCESS_KEY")
	silentBase.Store(true)
	asked := startContainerEndpoint(t, &silentBase)

	errs := make(chan error, 2)
	retrieve := func(arn string) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := role{ARN: arn, Region: "us-east-1"}.retrieve(ctx)
		errs <- err
	}
	go retrieve(waitsForBase)
	<-asked
	silentBase.Store(false)
	go retrieve(waitsForSTS)
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestRetrievalLeavesNoConnection(t *testing.T) {
	clienttest.Isolate(t)
	var open atomic.Int32
	sts := startSTS(t, roleCredentials)
	server := httptest.NewUnstartedServer(sts)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	server.Start()
	defer server.Close()
	t.Setenv("AWS_ENDPOINT_URL_STS", server.URL)
	for range 10 {
		if _, err := (role{ARN: roleARN, Region: "us-east-1"}).retrieve(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		if open.Load() == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d connections are still open", open.Load())
}
