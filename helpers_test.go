package bedrocktoken_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go/auth/bearer"
	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

func TestMain(m *testing.M) { os.Exit(awstest.Main(m)) }

const (
	accessKeyID  = "AKIAIOSFODNN7EXAMPLE"
	secretKey    = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	sessionToken = "IQoJb3JpZ2luX2VjEXAMPLE/session+token=="
	region       = "us-east-1"
)

var errRefused = errors.New("the source refuses")

func static(accessKeyID, secretKey, sessionToken string) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(accessKeyID, secretKey, sessionToken)
}

// providers returns every kind of provider of creds.
func providers(creds aws.Credentials) map[string]aws.CredentialsProvider {
	raw := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return creds, nil })
	return map[string]aws.CredentialsProvider{
		"static": credentials.StaticCredentialsProvider{Value: creds},
		"raw":    raw,
		"cached": aws.NewCredentialsCache(raw),
	}
}

func failing(err error) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, err })
}

func newProvider(t testing.TB, source aws.CredentialsProvider, opts ...bedrocktoken.Option) *bedrocktoken.Provider {
	t.Helper()
	opts = append([]bedrocktoken.Option{bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(source)}, opts...)
	provider, err := bedrocktoken.NewProvider(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return provider
}

// signedBy ends the test unless token is signed for region with creds, which may have
// expired.
func signedBy(t testing.TB, token, region string, creds aws.Credentials) verify.Token {
	t.Helper()
	return accept(t, token, region, creds)
}

// accept ends the test if token is not signed for region with creds.
func accept(t testing.TB, token, region string, creds aws.Credentials) verify.Token {
	t.Helper()
	verified, err := verifyFor(token, region, creds)
	if err != nil {
		t.Fatalf("the token is refused: %v", err)
	}
	return verified
}

// verifyFor verifies a token for creds, whether or not they have expired.
func verifyFor(token, region string, creds aws.Credentials) (verify.Token, error) {
	return verify.Service{Region: region, Secret: func(id, session string) (string, error) {
		if id != creds.AccessKeyID || session != creds.SessionToken {
			return "", errors.New("not the credentials that were given")
		}
		return creds.SecretAccessKey, nil
	}}.Verify(token)
}

func acceptStatic(t *testing.T, token string) {
	t.Helper()
	accept(t, token, region, aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey})
}

// acceptNext verifies the next token of provider for region and keys.
func acceptNext(t *testing.T, provider *bedrocktoken.Provider, region string, creds aws.Credentials) {
	t.Helper()
	token, err := provider.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	accept(t, token, region, creds)
}

// An authority verifies tokens for region, that of most tests.
type authority struct{ awstest.Authority }

func (a *authority) verify(token string) (verify.Token, error) { return a.Verify(token, region) }

// token returns a token of provider, and ends the test if it is not valid.
func (a *authority) token(t *testing.T, provider *bedrocktoken.Provider) (bearer.Token, verify.Token) {
	t.Helper()
	token, err := provider.RetrieveBearerToken(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	verified, err := a.verify(token.Value)
	if err != nil {
		t.Fatal(err)
	}
	return token, verified
}

func sleepUntil(moment time.Time) { time.Sleep(time.Until(moment)) }

// newContainer starts a credentials endpoint such as ECS has.
func newContainer(t *testing.T, answer http.HandlerFunc) *httptest.Server {
	server := httptest.NewUnstartedServer(answer)
	server.Config.SetKeepAlivesEnabled(false) // an idle connection would outlive the bubble
	server.Start()
	t.Cleanup(server.Close)
	return server
}

func writeCredentials(w http.ResponseWriter, creds aws.Credentials) {
	json.NewEncoder(w).Encode(map[string]any{
		"AccessKeyId": creds.AccessKeyID, "SecretAccessKey": creds.SecretAccessKey, "Token": creds.SessionToken, "Expiration": creds.Expires,
	})
}

// printing returns a shell command that prints a file.
func printing(file string) string {
	if runtime.GOOS == "windows" {
		return "type " + file
	}
	return "cat '" + file + "'"
}

// raceDetector reports whether the race detector is on. Long tests are shortened then.
func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
