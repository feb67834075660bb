#!/bin/sh
# Makes, in the current directory, a CA (ca.pem) and what it signed: NAME.key, NAME.pem and
# NAME.keystore.pem (key, then certificate: what Kafka's PEM key store reads) for the server and
# two clients; other-ca.pem, which signed nothing; and server.p12 for the identity provider.
set -e

authority() { # name, subject
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
    -keyout "$1.key" -out "$1.pem" -subj "/CN=$2" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
}

leaf() { # name, common name, alternative names, key usage
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -keyout "$1.key" -out "$1.csr" -subj "/CN=$2"
  cat > "$1.ext" <<END
basicConstraints=CA:FALSE
keyUsage=digitalSignature
extendedKeyUsage=$4
subjectAltName=$3
END
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 825 \
    -out "$1.pem" -extfile "$1.ext"
  cat "$1.key" "$1.pem" > "$1.keystore.pem"
}

authority ca "Test CA"
authority other-ca "Another CA"
leaf server localhost "DNS:localhost,IP:127.0.0.1,IP:::1" serverAuth,clientAuth
leaf client-zafka zafka DNS:zafka clientAuth
leaf client-mallory mallory DNS:mallory clientAuth
openssl pkcs12 -export -inkey server.key -in server.pem -certfile ca.pem -name server \
  -out server.p12 -passout pass:changeit
