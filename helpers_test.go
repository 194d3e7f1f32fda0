package bedrocktoken_test

import (
	"context"
	"errors"
	"os"
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

var (
	errRefused = errors.New("the source refuses")
	longTerm   = aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey}
)

func static(accessKeyID, secretKey, sessionToken string) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(accessKeyID, secretKey, sessionToken)
}

func failing(err error) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, err })
}

// sources returns a source of creds of each kind.
func sources(creds aws.Credentials) map[string]aws.CredentialsProvider {
	raw := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return creds, nil })
	return map[string]aws.CredentialsProvider{
		"static": credentials.StaticCredentialsProvider{Value: creds},
		"raw":    raw,
		"cached": aws.NewCredentialsCache(raw),
	}
}

// newDefault returns a Provider, by default with the default chain.
func newDefault(t testing.TB, opts ...bedrocktoken.Option) *bedrocktoken.Provider {
	t.Helper()
	provider, err := bedrocktoken.NewProvider(t.Context(), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return provider
}

func newProvider(t testing.TB, source aws.CredentialsProvider, opts ...bedrocktoken.Option) *bedrocktoken.Provider {
	t.Helper()
	return newDefault(t, append([]bedrocktoken.Option{bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(source)}, opts...)...)
}

// tokenOf returns a token of provider, and ends the test if there is none.
func tokenOf(t testing.TB, provider *bedrocktoken.Provider) string {
	t.Helper()
	token, err := provider.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// errorOf returns the error of a call of provider, and ends the test if it is not
// ErrCredentials.
func errorOf(t testing.TB, provider *bedrocktoken.Provider) error {
	t.Helper()
	token, err := provider.RetrieveBearerToken(t.Context())
	if !errors.Is(err, bedrocktoken.ErrCredentials) || token != (bearer.Token{}) {
		t.Fatalf("got %v and error %v, want ErrCredentials", token, err)
	}
	return err
}

// signedBy returns what token says. It ends the test unless token is valid in region
// and was signed with creds, whether or not these have expired.
func signedBy(t testing.TB, token, region string, creds aws.Credentials) verify.Token {
	t.Helper()
	verified, err := verify.Service{Region: region, Secret: func(id, session string) (string, error) {
		if id != creds.AccessKeyID || session != creds.SessionToken {
			return "", errors.New("not the credentials that were given")
		}
		return creds.SecretAccessKey, nil
	}}.Verify(token)
	if err != nil {
		t.Fatalf("the token is refused: %v", err)
	}
	return verified
}

func sleepUntil(moment time.Time) { time.Sleep(time.Until(moment)) }

// raceDetector reports whether the race detector is on. Long tests are shortened then.
func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
