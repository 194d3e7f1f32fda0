package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
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
		Base: "/openai/v1",
		Path: "/openai/v1/chat/completions",
		Provide: func(t *testing.T, keys *clienttest.Keys) {
			startSTS(t, func(ctx context.Context, _ clienttest.AssumeRole) (aws.Credentials, error) {
				return keys.Retrieve(ctx)
			})
		},
	}.Run(t)
}

// STS is told what the flags say, and asked in the region of the environment.
func TestSTS(t *testing.T) {
	clienttest.Isolate(t)
	t.Setenv("AWS_REGION", "eu-west-1")
	sts := startSTS(t, roleCredentials)
	server := fakebedrock.New(t, verify.Service{
		Region: clienttest.Region,
		Secret: func(string, string) (string, error) { return "secret", nil },
	})
	_, err := clienttest.Exec(t, server, nil,
		"-region", clienttest.Region, "-endpoint", server.URL+"/openai/v1", "-role", roleARN,
		"-external-id", "7f3a", "-session-name", "nightly", "-tag", "team=search", "-tag", "note=a=b", "-tag", "empty=")
	if err != nil {
		t.Fatal(err)
	}
	want := clienttest.AssumeRole{
		Role: roleARN, ExternalID: "7f3a", SessionName: "nightly", Seconds: "3600",
		Tags:        map[string]string{"team": "search", "note": "a=b", "empty": ""},
		AccessKeyID: "AKIABASE", Region: "eu-west-1",
	}
	if got := sts.Requests(); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("STS received %+v, want %+v", got, want)
	}
	if out, err := clienttest.Exec(t, server, nil, "-role", roleARN, "-tag", "=value"); err == nil {
		t.Errorf("a tag without a key is accepted, output %q", out)
	}
}

// A request that is never answered is given up, whether the endpoint of a container
// or STS is silent, and the next one serves the call that waits.
func TestUnansweredRequestIsGivenUp(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for 20 seconds")
	}
	clienttest.Isolate(t)
	silentAtFirst := func() func(context.Context) {
		var asked atomic.Bool
		return func(ctx context.Context) {
			if !asked.Swap(true) {
				<-ctx.Done()
			}
		}
	}
	containerAnswers, stsAnswers := silentAtFirst(), silentAtFirst()
	container := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		containerAnswers(r.Context())
		json.NewEncoder(w).Encode(map[string]string{"AccessKeyId": "ASIACONTAINER", "SecretAccessKey": "secret", "Token": "session"})
	}))
	defer container.Close()
	defer container.CloseClientConnections() // else Close waits for a request without an answer
	sts := startSTS(t, func(ctx context.Context, request clienttest.AssumeRole) (aws.Credentials, error) {
		stsAnswers(ctx)
		return roleCredentials(ctx, request)
	})
	os.Unsetenv("AWS_ACCESS_KEY_ID") // startSTS restores it
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.URL)

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	provider, err := newProvider(ctx, clienttest.Region, roleARN, func(*stscreds.AssumeRoleOptions) {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.Token(ctx); err != nil {
		t.Error(err)
	}
	if got := sts.Requests(); len(got) != 2 || got[1].AccessKeyID != "ASIACONTAINER" {
		t.Errorf("STS received %+v", got)
	}
}
