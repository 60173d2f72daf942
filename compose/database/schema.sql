-- The service's tables, and the test students who may upload.
-- Run by a superuser, once, in the database "students", after the plain role "app" was made.
CREATE TABLE students (id int PRIMARY KEY, token text UNIQUE NOT NULL, name text NOT NULL);
CREATE TABLE recordings (
    id text PRIMARY KEY,
    student_id int NOT NULL REFERENCES students,
    object_name text NOT NULL,
    size bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE scores (
    id text PRIMARY KEY,
    student_id int NOT NULL REFERENCES students,
    score double precision NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE progress (
    student_id int PRIMARY KEY REFERENCES students, recordings int NOT NULL
);
INSERT INTO students
SELECT n, 'student-token-' || lpad(n::text, 5, '0'), 'Student ' || n
FROM generate_series(0, 4999) AS n;
INSERT INTO progress SELECT id, 0 FROM students;
GRANT SELECT ON students TO app;
GRANT SELECT, INSERT ON recordings, scores TO app;
GRANT SELECT, UPDATE ON progress TO app;
ANALYZE;
